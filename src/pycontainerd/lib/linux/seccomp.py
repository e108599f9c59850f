"""Seccomp filters: from the rules of a profile to BPF, by libseccomp, and cached by digest.

libseccomp does the rules. Before them stands a prologue of our own, for each architecture of the profile:
  * system calls that this libseccomp doesn't know by name, with the rule's action;
  * ENOSYS for every call newer than the newest that the profile names, so that programs fall back to an older call
    instead of failing with the profile's EPERM (as runc's patchbpf).

Spec: runtime-spec config-linux.md#seccomp
Man:  seccomp(2), seccomp_rule_add(3)
"""

from __future__ import annotations

import errno
import os

from pycontainerd.lib.errdefs import InvalidArgument, Unimplemented
from pycontainerd.lib.linux import ctypes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FORMAT = "1"  # part of the cache key: changes with the prologue's layout

FILTER_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}
ACTIONS = {
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_WITH_ERRNO = frozenset(("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"))
_PERMISSIVE = frozenset(("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_NOTIFY"))
OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
# config.json name -> AUDIT_ARCH_ token as libseccomp and the kernel use it (x32 is libseccomp's own).
ARCHITECTURES = {
    "SCMP_ARCH_X86": 0x40000003,
    "SCMP_ARCH_X86_64": 0xC000003E,
    "SCMP_ARCH_X32": 0x4000003E,
    "SCMP_ARCH_ARM": 0x40000028,
    "SCMP_ARCH_AARCH64": 0xC00000B7,
    "SCMP_ARCH_MIPS": 0x8,
    "SCMP_ARCH_MIPS64": 0x80000008,
    "SCMP_ARCH_MIPS64N32": 0xA0000008,
    "SCMP_ARCH_MIPSEL": 0x40000008,
    "SCMP_ARCH_MIPSEL64": 0xC0000008,
    "SCMP_ARCH_MIPSEL64N32": 0xE0000008,
    "SCMP_ARCH_PPC": 0x14,
    "SCMP_ARCH_PPC64": 0x80000015,
    "SCMP_ARCH_PPC64LE": 0xC0000015,
    "SCMP_ARCH_RISCV64": 0xC00000F3,
    "SCMP_ARCH_S390": 0x16,
    "SCMP_ARCH_S390X": 0x80000016,
}
_NATIVE = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}[os.uname().machine]
_X32_BIT = 0x40000000

# Calls that a libseccomp may be too old to know. The same number on every architecture (x32: without its bit).
NEW_SYSCALLS = {
    name: 443 + at
    for at, name in enumerate(
        [
            "quotactl_fd",
            "landlock_create_ruleset",
            "landlock_add_rule",
            "landlock_restrict_self",
            "memfd_secret",
            "process_mrelease",
            "futex_waitv",
            "set_mempolicy_home_node",
            "cachestat",
            "fchmodat2",
            "map_shadow_stack",
            "futex_wake",
            "futex_wait",
            "futex_requeue",
            "statmount",
            "listmount",
            "lsm_get_self_attr",
            "lsm_set_self_attr",
            "lsm_list_modules",
            "mseal",
            "setxattrat",
            "getxattrat",
            "listxattrat",
            "removexattrat",
            "open_tree_attr",
            "file_getattr",
            "file_setattr",
        ]
    )
}


class SockFprog(ctypes.Structure):
    """struct sock_fprog of linux/filter.h; filter is the address of the instructions."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


class ArgCompare(ctypes.Structure):
    """struct scmp_arg_cmp of seccomp.h."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


class _Version(ctypes.Structure):
    _fields_ = (("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint))


class _Library:
    """libseccomp with its types."""

    __slots__ = ("add_arch", "add_rule", "export", "init", "release", "resolve", "set_attribute", "version")

    def __init__(self) -> None:
        try:
            lib = ctypes.CDLL("libseccomp.so.2")
        except OSError as error:
            raise Unimplemented(
                "config provided but seccomp not supported",
                hint="install libseccomp2: it compiles the container's seccomp profile",
            ) from error
        context, u32, i32 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int
        self.init = self._typed(lib, "seccomp_init", context, u32)
        self.release = self._typed(lib, "seccomp_release", None, context)
        self.add_arch = self._typed(lib, "seccomp_arch_add", i32, context, u32)
        self.set_attribute = self._typed(lib, "seccomp_attr_set", i32, context, i32, u32)
        self.resolve = self._typed(lib, "seccomp_syscall_resolve_name_arch", i32, u32, ctypes.c_char_p)
        self.add_rule = self._typed(
            lib,
            "seccomp_rule_add_array",
            i32,
            context,
            u32,
            i32,
            ctypes.c_uint,
            ctypes.POINTER(ArgCompare),
        )
        self.export = self._typed(lib, "seccomp_export_bpf", i32, context, i32)
        version = self._typed(lib, "seccomp_version", ctypes.POINTER(_Version))().contents
        self.version = f"{version.major}.{version.minor}.{version.micro}"

    @staticmethod
    def _typed(lib: ctypes.CDLL, name: str, restype: Any, *argtypes: Any) -> Any:
        func = lib[name]
        func.restype, func.argtypes = restype, argtypes
        return func


def library_version() -> str:
    """libseccomp's version; empty when it isn't installed."""
    try:
        return _Library().version
    except Unimplemented:
        return ""


def action_value(name: str, errno_ret: int | None) -> int:
    """A rule's action as the kernel returns it; EPERM where an errno is wanted and none is given."""
    if name not in ACTIONS:
        raise InvalidArgument(f"string {name} is not a valid action for seccomp")
    value = ACTIONS[name]
    if name in _WITH_ERRNO:
        value |= (errno.EPERM if errno_ret is None else errno_ret) & 0xFFFF
    return value


def compile_filter(seccomp: dict[str, Any], cache_dir: str) -> bytes:
    """The BPF of a profile (`linux.seccomp`), 8 bytes an instruction, from cache_dir when it is there.

    InvalidArgument for what the profile has wrong, Unimplemented without libseccomp.
    """
    from pycontainerd.lib.oci.document import dumps
    from pycontainerd.lib.sha256 import hexdigest

    key = dumps([_FORMAT, _NATIVE, seccomp]).encode("utf-8", "surrogateescape")
    path = f"{cache_dir}/.seccomp-{hexdigest(key)}.bpf"
    cached = _read_cache(path)
    if cached:
        return cached
    code = _compile(seccomp)
    if len(code) // 8 > 0xFFFF:
        raise InvalidArgument("seccomp profile is too large")
    _write_cache(path, code)
    return code


def _read_cache(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return b""  # compiled anew
    try:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid() or found.st_mode & 0o022 or found.st_size % 8:
            return b""
        return os.read(fd, found.st_size)
    finally:
        os.close(fd)


def _write_cache(path: str, code: bytes) -> None:
    temporary = f"{path}.{os.getpid()}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return  # no cache folder, or a full disk: slower next time, no worse
    try:
        written = os.write(fd, code)
    finally:
        os.close(fd)
    if written == len(code):
        os.rename(temporary, path)
    else:
        os.unlink(temporary)


class _Compiler:
    """One profile on its way through libseccomp."""

    __slots__ = ("context", "default", "default_name", "extra", "library", "newest", "tokens")

    def __init__(self, library: _Library, seccomp: dict[str, Any]) -> None:
        self.library = library
        self.default_name = seccomp["defaultAction"]
        self.default = action_value(self.default_name, seccomp.get("defaultErrnoRet"))
        self.context = library.init(self.default)
        if not self.context:
            raise InvalidArgument(f"seccomp: default action {self.default_name} is not supported")
        names = list(dict.fromkeys([_NATIVE, *seccomp.get("architectures", [])]))
        self.tokens: list[int] = []
        for name in names:
            if name not in ARCHITECTURES:
                raise InvalidArgument(f"string {name} is not a valid arch for seccomp")
            self.tokens.append(ARCHITECTURES[name])
            result = library.add_arch(self.context, ARCHITECTURES[name])
            if result not in (0, -errno.EEXIST):
                raise InvalidArgument(f"seccomp: error adding architecture {name}: {os.strerror(-result)}")
        library.set_attribute(
            self.context, 3, 0
        )  # SCMP_FLTATR_CTL_NNP: no_new_privs is set by the config alone
        library.set_attribute(
            self.context, 8, 2
        )  # SCMP_FLTATR_CTL_OPTIMIZE: a binary tree; older ones refuse
        self.newest = dict.fromkeys(self.tokens, -1)
        self.extra: list[tuple[int, int]] = []

    def add(self, rule: dict[str, Any]) -> None:
        """One entry of `syscalls`."""
        action = action_value(rule.get("action", ""), rule.get("errnoRet"))
        sets = _argument_sets(rule.get("args", []))
        for name in rule.get("names", []):
            number = self._note(name)
            if action == self.default:
                continue
            if number is None:
                if name in NEW_SYSCALLS:
                    if rule.get("args"):
                        raise Unimplemented(
                            f"seccomp: libseccomp is too old for a rule on {name} with arguments"
                        )
                    self.extra.append((NEW_SYSCALLS[name], action))
                continue  # a name no kernel of ours has: nothing to filter
            for compares in sets:
                array = (ArgCompare * max(len(compares), 1))(*compares)
                result = self.library.add_rule(self.context, action, number, len(compares), array)
                if result not in (0, -errno.EEXIST, -errno.EDOM):
                    raise InvalidArgument(
                        f"error adding seccomp filter rule for syscall {name}: {os.strerror(-result)}"
                    )

    def _note(self, name: str) -> int | None:
        """The native (or pseudo) number of a name, and its place in the newest-call table."""
        raw = name.encode()
        native: int | None = None
        for token in self.tokens:
            number = self.library.resolve(token, raw)
            if number == -1 and name in NEW_SYSCALLS:
                number = NEW_SYSCALLS[name]
            elif token == ARCHITECTURES[_NATIVE] and number != -1:
                native = number
            if number >= 0:
                self.newest[token] = max(self.newest[token], number & ~_X32_BIT)
        return native

    def export(self) -> bytes:
        """libseccomp's program."""
        fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        try:
            result = self.library.export(self.context, fd)
            if result:
                raise InvalidArgument(f"seccomp: unable to make the filter: {os.strerror(-result)}")
            return os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)


def _argument_sets(args: list[dict[str, Any]]) -> list[list[ArgCompare]]:
    """Conditions that hold together; two on one argument are alternatives, a rule each, as in runc."""
    compares = []
    for item in args:
        operator = item.get("op", "")
        if operator not in OPERATORS:
            raise InvalidArgument(f"string {operator} is not a valid operator for seccomp")
        index = item.get("index", 0)
        if index > 5:
            raise InvalidArgument(f"seccomp: argument index {index} is greater than 5")
        compares.append(ArgCompare(index, OPERATORS[operator], item.get("value", 0), item.get("valueTwo", 0)))
    if len({compare.arg for compare in compares}) == len(compares):
        return [compares]
    return [[compare] for compare in compares]


def _compile(seccomp: dict[str, Any]) -> bytes:
    library = _Library()
    compiler = _Compiler(library, seccomp)
    try:
        for rule in seccomp.get("syscalls", []):
            compiler.add(rule)
        return prologue(compiler.newest, compiler.extra, compiler.default_name) + compiler.export()
    finally:
        library.release(compiler.context)


_LOAD, _JEQ, _JGT, _JSET, _RET, _JA = 0x20, 0x15, 0x25, 0x45, 0x06, 0x05


def _instruction(code: int, true: int, false: int, value: int) -> bytes:
    return code.to_bytes(2, "little") + bytes((true, false)) + value.to_bytes(4, "little")


def prologue(newest: dict[int, int], extra: list[tuple[int, int]], default_name: str) -> bytes:
    """Our instructions, which fall through to libseccomp's.

    newest: architecture token -> highest number the profile names; extra: (number, action) of calls that libseccomp
    doesn't know.
    """
    out = b""
    for token, last in newest.items():
        if token == ARCHITECTURES["SCMP_ARCH_X32"]:
            continue  # the kernel shows x32 as x86_64 with a bit in the number: left to libseccomp
        body = _instruction(_LOAD, 0, 0, 0)  # the number
        checks = b"".join(
            _instruction(_JEQ, 0, 1, number) + _instruction(_RET, 0, 0, action) for number, action in extra
        )
        if last >= 0 and default_name not in _PERMISSIVE:
            checks += _instruction(_JGT, 0, 1, last) + _instruction(
                _RET, 0, 0, ACTIONS["SCMP_ACT_ERRNO"] | errno.ENOSYS
            )
        if not checks:
            continue
        if token == ARCHITECTURES["SCMP_ARCH_X86_64"]:
            body += _instruction(_JSET, 0, 1, _X32_BIT) + _instruction(_JA, 0, 0, len(checks) // 8)
        body += checks
        # Long jumps: a list of new calls may be longer than a conditional jump's 255.
        out += _instruction(_LOAD, 0, 0, 4)
        out += _instruction(_JEQ, 1, 0, token) + _instruction(_JA, 0, 0, len(body) // 8)
        out += body
    return out
