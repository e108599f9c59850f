"""Builds each program as one runnable file: packaging/program.sh, and an archive of the package and its dependencies.

    scripts/programs.py DIR [NAME...]     NAME: one of ours, or the one it stands for (containerd-shim, runc, ...)

The files run with the Python version and on the machine type they were built with; a build from the same sources and the
same .venv gives the same bytes.
"""

from __future__ import annotations

import compileall
import hashlib
import importlib.metadata
import importlib.util
import io
import os
import re
import shutil
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSION = ".".join(map(str, sys.version_info[:2]))


def main() -> int:
    """Writes what is asked for, all programs by default, and names the files."""
    if len(sys.argv) < 2:
        sys.stderr.write("usage: scripts/programs.py DIR [NAME...]\n")
        return 2
    known = sorted(path.name for path in (ROOT / "bin").iterdir())
    names, ours = sys.argv[2:] or known, aliases()
    for name in names:
        if ours.get(name, name) not in known:
            sys.stderr.write(f"programs: no program {name}; there are {', '.join([*known, *ours])}\n")
            return 2
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    archive = build_archive()
    for name in names:
        write_program(folder / name, ours.get(name, name), archive)
        print(folder / name)
    return 0


def aliases() -> dict[str, str]:
    """Upstream name -> the program of ours that scripts/aliases links it to."""
    links = re.findall(
        r"^for name in (.+); do link (\S+)", (ROOT / "scripts/aliases").read_text(), re.MULTILINE
    )
    return {name: program for names, program in links for name in names.split()}


def build_archive() -> bytes:
    """The zip archive: bin/ and lib/pythonX.Y/site-packages/ as in a prefix, and the unpacker as __main__."""
    unpacker = ROOT / "packaging/unpack.py"
    epoch = load(unpacker).EPOCH
    with tempfile.TemporaryDirectory(prefix="programs") as name:
        stage = Path(name)
        site = stage / f"lib/python{VERSION}/site-packages"
        copy_tree(ROOT / "src/pycontainerd", site / "pycontainerd")
        copy_tree(ROOT / "bin", stage / "bin")
        for distribution in dependencies():
            copy_distribution(distribution, site)
        files = sorted(path for path in stage.rglob("*") if path.is_file())
        for path in files:
            os.utime(path, (epoch, epoch))
        compileall.compile_dir(stage / "lib", quiet=2, stripdir=str(stage), workers=1)
        files = sorted(path for path in stage.rglob("*") if path.is_file())
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            add(archive, "__main__.py", unpacker.read_bytes())
            for path in files:
                add(archive, str(path.relative_to(stage)), path.read_bytes())
    return buffer.getvalue()


def load(path: Path):  # noqa: ANN201 - a module
    """A Python file as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """One entry, of a time that says nothing."""
    entry = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, data)


def copy_tree(source: Path, target: Path) -> None:
    """Without what Python has compiled."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))


def dependencies() -> list[importlib.metadata.Distribution]:
    """What pyproject.toml asks for, and what that asks for, from this environment."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = list(project["project"]["dependencies"])
    found: dict[str, importlib.metadata.Distribution] = {}
    while wanted:
        requirement, _, marker = wanted.pop().partition(";")
        name = re.split(r"[\s<>=!~\[(]", requirement.strip())[0].lower()
        if name in found or "extra" in marker:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            if not marker:  # else for another Python
                raise
            continue
        wanted += found[name].requires or []
    return [found[name] for name in sorted(found)]


def copy_distribution(distribution: importlib.metadata.Distribution, site: Path) -> None:
    """Its files below site-packages, licences included."""
    for file in distribution.files or []:
        if ".." in file.parts or "__pycache__" in file.parts:
            continue  # scripts and manuals of the environment; what was compiled for other times
        if file.name in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json"):
            continue  # say how it came here
        target = site / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(distribution.locate_file(file), target)


def write_program(path: Path, program: str, archive: bytes) -> None:
    """The text with its blanks filled, the archive, and the right to run it; renamed into place."""
    version = load(ROOT / "src/pycontainerd/version.py").__version__
    values = {
        "PROGRAM": program,
        "VERSION": version,
        "BUILD": hashlib.sha256(archive).hexdigest(),
        "SIZE": str(len(archive)),
        "PYTHON": VERSION,
        "MACHINE": os.uname().machine,
    }
    text = (ROOT / "packaging/program.sh").read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(text.encode() + archive)
    temporary.chmod(0o755)
    temporary.rename(path)


if __name__ == "__main__":
    sys.exit(main())
