"""From the flags of `run` and `containers create` to a Spec, in containerd's order of options."""

from __future__ import annotations

import os

from pycontainerd.client import image_spec, spec_opts
from pycontainerd.ctr import host, text
from pycontainerd.ctr.text import os_text
from pycontainerd.lib.errdefs import InvalidArgument

TYPE_CHECKING = False  # typing itself costs 10 ms to import; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Final

    from pycontainerd.client.spec_opts import Spec
    from pycontainerd.ctr.flags import Values
    from pycontainerd.lib.oci.image import ImageConfig

_NAMESPACES: Final = frozenset({"pid", "network", "mount", "ipc", "uts", "user", "cgroup"})
_DEFAULT_PERIOD_US: Final = 100_000
_OTHER_PLATFORMS: Final = ("solaris", "windows", "vm", "zos", "freebsd")  # sections of a spec that are theirs
_NO_HOST_DEVICES: Final = "privileged-without-host-devices"


def require_consistent(flags: Values) -> None:
    """What can be refused before anything is made."""
    if flags.text("seccomp-profile") and not flags.on("seccomp"):
        raise InvalidArgument("seccomp must be set to true, if using a custom seccomp-profile")
    if flags.text("apparmor-default-profile") and flags.text("apparmor-profile"):
        raise InvalidArgument("apparmor-default-profile conflicts with apparmor-profile")
    for name in (*flags.texts("cap-add"), *flags.texts("cap-drop")):
        if not name.startswith("CAP_"):
            raise InvalidArgument("capabilities must be specified with 'CAP_' prefix")
    joined_namespaces(flags)
    without_devices = _has(flags, _NO_HOST_DEVICES) and flags.on(_NO_HOST_DEVICES)
    if without_devices and not flags.on("privileged"):
        raise InvalidArgument("can't use 'privileged-without-host-devices' without 'privileged' specified")
    if (
        _has(flags, "cpus")
        and flags.real("cpus") > 0
        and (flags.number("cpu-quota") > 0 or flags.number("cpu-period"))
    ):
        raise InvalidArgument("cpus and quota/period should be used separately")
    if flags.texts("uidmap") if _has(flags, "uidmap") else False:
        id_mappings(flags)


def _has(flags: Values, name: str) -> bool:
    return flags.flag(name) is not None


def joined_namespaces(flags: Values) -> list[tuple[str, str]]:
    """(type, path) pairs of --with-ns."""
    pairs: list[tuple[str, str]] = []
    for entry in flags.texts("with-ns"):
        kind, colon, path = entry.partition(":")
        if not colon:
            raise InvalidArgument(
                "joining a Linux namespace using --with-ns requires the format 'nstype:path'",
                hint="for example --with-ns network:/proc/PID/ns/net",
            )
        if kind not in _NAMESPACES:
            raise InvalidArgument(f"the Linux namespace type specified in --with-ns is not valid: {kind}")
        pairs.append((kind, path))
    return pairs


def id_mappings(flags: Values) -> tuple[list[dict[str, int]], list[dict[str, int]]]:
    """The maps of --uidmap and --gidmap; both or neither."""
    uids = [_id_mapping(entry, "uid") for entry in flags.texts("uidmap")]
    gids = [_id_mapping(entry, "gid") for entry in flags.texts("gidmap")]
    if bool(uids) != bool(gids):
        raise InvalidArgument("--uidmap and --gidmap go together")
    return uids, gids


def _id_mapping(entry: str, kind: str) -> dict[str, int]:
    parts = entry.split(":")
    if len(parts) != 3:
        raise InvalidArgument(f'invalid map "{entry}": want container-{kind}:host-{kind}:length')
    first, second, size = (image_spec.parse_id(part) for part in parts)
    return {"containerID": first, "hostID": second, "size": size}


def from_file(path: str) -> Spec:
    """--config: the whole document, its types checked; of what the specification doesn't know nothing stays, as in ctr."""
    from pycontainerd.lib.oci import document, runtime

    try:
        with open(path, "rb") as file:
            data = file.read(spec_file_limit := 16 << 20)
    except OSError as error:
        raise InvalidArgument(f"cannot load spec config file: {os_text(error)}") from error
    if len(data) == spec_file_limit:
        raise InvalidArgument(f"{path} is larger than {spec_file_limit} bytes")
    try:
        whole = document.loads(data)
        spec = runtime.checked(whole, runtime.SPEC)
    except (document.DocumentError, InvalidArgument) as error:
        raise InvalidArgument(f"failed to unmarshal spec: {error}") from error
    return {**spec, **{key: whole[key] for key in _OTHER_PLATFORMS if key in whole}}


def build(
    flags: Values,
    namespace: str,
    container_id: str,
    args: Sequence[str],
    *,
    image: ImageConfig | None,
    read_file: Callable[[str], bytes],
    rootfs: str = "",
) -> Spec:
    """The Spec of a new container; reads the host's files that the flags name."""
    spec = spec_opts.with_default_devices(spec_opts.default_spec(namespace, container_id))
    if flags.text("env-file"):
        spec = spec_opts.with_env(spec, host.environment_file(flags.text("env-file")))
    spec = spec_opts.with_env(spec, flags.texts("env"))
    spec = spec_opts.with_mounts(spec, [spec_opts.parse_mount(entry) for entry in flags.texts("mount")])
    if image is None:
        spec = spec_opts.with_root(spec, path=os.path.abspath(rootfs))
    else:
        spec = image_spec.with_image(spec, image, read_file)
    spec = _with_process_flags(spec, flags, args, read_file)
    spec = _with_privileges(spec, flags)
    spec = _with_network(spec, flags)
    spec = _with_filters(spec, flags)
    for kind, path in joined_namespaces(flags):
        spec = spec_opts.with_namespace(spec, kind, path)
    if flags.is_set("gpus"):
        from pycontainerd.ctr import gpus

        spec = gpus.with_gpus(spec, flags.texts("gpus"), os.environ)
    # ctr hands a container's labels to the runtime, too.
    return spec_opts.with_annotations(_with_limits(spec, flags), text.labels_from(flags.texts("label")))


def _with_process_flags(
    spec: Spec, flags: Values, args: Sequence[str], read_file: Callable[[str], bytes]
) -> Spec:
    if flags.on("read-only"):
        spec = spec_opts.with_root(spec, readonly=True)
    if args:
        spec = spec_opts.with_args(spec, args)
    if flags.text("cwd"):
        spec = spec_opts.with_process(spec, cwd=flags.text("cwd"))
    if flags.text("user"):
        spec = image_spec.with_user(spec, flags.text("user"), read_file)
        spec = image_spec.with_additional_gids(spec, flags.text("user").partition(":")[0], read_file)
    if flags.on("tty"):
        spec = spec_opts.with_terminal(spec)
    return spec_opts.with_annotations(spec, text.labels_from(flags.texts("annotation")))


def _with_privileges(spec: Spec, flags: Values) -> Spec:
    if not flags.on("privileged"):
        return spec
    spec = spec_opts.with_capabilities(spec, host.current_capabilities())
    spec = spec_opts.with_linux(spec, maskedPaths=[], readonlyPaths=[])
    spec = spec_opts.with_writable(spec_opts.with_writable(spec, "sysfs"), "cgroup")
    if _has(flags, _NO_HOST_DEVICES) and flags.on(_NO_HOST_DEVICES):
        return spec
    spec = spec_opts.with_all_devices_allowed(spec)
    return spec_opts.with_linux(spec, devices=[*spec["linux"].get("devices", ()), *host.host_devices()])


def _with_network(spec: Spec, flags: Values) -> Spec:
    if flags.text("hostname"):
        spec = {**spec, "hostname": flags.text("hostname")}
    if not flags.on("net-host"):
        return spec
    spec = spec_opts.without_namespace(spec, "network")
    binds = [
        spec_opts.mount(path, "bind", path, ["rbind", "ro"]) for path in ("/etc/hosts", "/etc/resolv.conf")
    ]
    return spec_opts.with_env(spec_opts.with_mounts(spec, binds), [f"HOSTNAME={os.uname().nodename}"])


def _with_filters(spec: Spec, flags: Values) -> Spec:
    if flags.on("seccomp"):
        spec = spec_opts.with_linux(spec, seccomp=_seccomp(spec, flags.text("seccomp-profile")))
    if flags.text("apparmor-profile"):
        spec = spec_opts.with_process(spec, apparmorProfile=flags.text("apparmor-profile"))
    if flags.text("apparmor-default-profile"):
        spec = _with_default_apparmor(spec, flags.text("apparmor-default-profile"))
    if flags.on("allow-new-privs"):
        spec = spec_opts.with_process(spec, noNewPrivileges=False)
    return spec


def _seccomp(spec: Spec, path: str) -> Any:
    import json

    if path:
        with open(path, "rb") as file:
            try:
                return json.load(file)
            except ValueError as error:
                raise InvalidArgument(f"failed to unmarshal seccomp profile: {error}") from error
    from pycontainerd.lib.oci import seccomp_profile

    return seccomp_profile.default_profile(spec["process"]["capabilities"]["bounding"])


def _with_default_apparmor(spec: Spec, name: str) -> Spec:
    from pycontainerd.ctr import apparmor

    apparmor.require_loaded(name)
    return spec_opts.with_process(spec, apparmorProfile=name)


def _with_limits(spec: Spec, flags: Values) -> Spec:
    if _has(flags, "cgroup") and flags.is_set("cgroup"):
        spec = spec_opts.with_linux(spec, cgroupsPath=flags.text("cgroup"))
    if flags.number("memory-limit"):
        spec = spec_opts.with_resources(spec, "memory", limit=flags.number("memory-limit"))
    spec = _with_devices(spec, flags.texts("device"))
    if flags.text("rootfs-propagation"):
        spec = spec_opts.with_linux(spec, rootfsPropagation=flags.text("rootfs-propagation"))
    spec = spec_opts.with_changed_capabilities(spec, flags.texts("cap-add"), flags.texts("cap-drop"))
    spec = _with_cpu(spec, flags)
    if flags.text("blockio-config-file") or flags.text("blockio-class"):
        from pycontainerd.ctr import blockio

        found = blockio.of_class(flags.text("blockio-config-file"), flags.text("blockio-class"))
        if found is not None:
            spec = spec_opts.with_resources(spec, "blockIO", **found)
    if flags.text("rdt-class"):
        spec = spec_opts.with_linux(spec, intelRdt={"closID": flags.text("rdt-class")})
    if _has(flags, "rlimit-nofile") and flags.text("rlimit-nofile"):
        spec = spec_opts.with_process(spec, rlimits=[_open_files(flags.text("rlimit-nofile"))])
    if _has(flags, "uidmap") and (flags.texts("uidmap") or flags.texts("gidmap")):
        spec = spec_opts.with_user_namespace(spec, *id_mappings(flags))
    return spec


def _with_devices(spec: Spec, wanted: Sequence[str]) -> Spec:
    """Nodes and folders of the host, then what CDI files describe under a name."""
    named = [one for one in wanted if "=" in one and not one.startswith("/")]
    for path in wanted:
        if path not in named:
            for device in host.devices(path):
                spec = spec_opts.with_device(spec, device)
    if named:
        from pycontainerd.ctr import cdi

        spec = cdi.with_devices(spec, named)
    return spec


def _with_cpu(spec: Spec, flags: Values) -> Spec:
    quota, period = flags.number("cpu-quota"), flags.number("cpu-period")
    fields: dict[str, Any] = {"quota": quota if quota != -1 else None, "period": period or None}
    if _has(flags, "cpus"):
        if flags.real("cpus") > 0:
            fields.update(quota=int(flags.real("cpus") * _DEFAULT_PERIOD_US), period=_DEFAULT_PERIOD_US)
        fields["shares"] = flags.number("cpu-shares") or None
        fields["cpus"] = flags.text("cpuset-cpus") or None
        fields["mems"] = flags.text("cpuset-mems") or None
    if any(value is not None for value in fields.values()):
        spec = spec_opts.with_resources(spec, "cpu", **fields)
    return spec


def _open_files(entry: str) -> dict[str, Any]:
    soft, colon, hard = entry.partition(":")
    try:
        return {
            "type": "RLIMIT_NOFILE",
            "hard": image_spec.parse_id(hard if colon else soft),
            "soft": image_spec.parse_id(soft),
        }
    except InvalidArgument as error:
        raise InvalidArgument(f'invalid --rlimit-nofile "{entry}": want soft:hard') from error
