"""The types of the DSL's arguments: plain Python types to a type checker, narrowed to what an image can hold.

Sources: systemd.unit(5) (unit names), systemd's doc/USER_NAMES (strict mode), deb-version(7) and Debian Policy 5.6.1
(package names), systemd.exec(5) (environment).
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from typing import Annotated, Any

from tdxc import records
from tdxc.diagnostics import Code, nearest
from tdxc.ir import KNOWN_BASES

from tdx._kinds import Constraint, Problem, describe, secret_problem
from tdx._secret import SecretReference

_PATH_MAX_BYTES = 4096
_NAME_MAX_BYTES = 255
_PROGRAM_PATH_BYTES = 512


def _has_control(value: str) -> bool:
    return not value.isprintable() and any(ch < " " or ch == "\x7f" for ch in value)


def _guest_path(value: str) -> Problem | None:
    if not value.startswith("/"):
        plain = value and not value.startswith("~")
        fix = f"write '{posixpath.normpath('/' + value)}'" if plain else "write where it is in the image: '/…'"
        return Problem(Code.E_PATH, f"{value!r} is not an absolute path in the image", fix)
    if _has_control(value):
        return Problem(Code.E_PATH, f"{value!r} holds a control character")
    normal = posixpath.normpath(value)
    if value.startswith("//") or value != normal:
        return Problem(
            Code.E_PATH, f"'{value}' is not a normalised path", f"write '{posixpath.normpath('/' + value.lstrip('/'))}'"
        )
    if len(value.encode(errors="surrogatepass")) >= _PATH_MAX_BYTES:
        return Problem(Code.E_PATH, f"is longer than {_PATH_MAX_BYTES - 1} bytes")
    if any(len(part.encode(errors="surrogatepass")) > _NAME_MAX_BYTES for part in value.split("/")):
        return Problem(Code.E_PATH, f"has a component of more than {_NAME_MAX_BYTES} bytes")
    return None


def _guest_file(value: str) -> Problem | None:
    if value == "/":
        return Problem(Code.E_PATH, "'/' is the root directory itself")
    return _guest_path(value)


def _device(value: str) -> Problem | None:
    problem = _guest_file(value)
    if problem and value and not value.startswith("/"):
        below = posixpath.normpath(f"/{value}") if value.startswith("dev/") else posixpath.normpath(f"/dev/{value}")
        return records.evolve(problem, fix=f"write '{below}'")
    return problem


def _option(value: str | int | bool) -> Problem | None:
    """Text that is meant as a tristate; in quotes of its own it is text."""
    switch = {"yes": "y", "on": "y", "true": "y", "no": "n", "off": "n", "false": "n"}.get(str(value).lower())
    if switch is None or not isinstance(value, str):
        return None
    return Problem(Code.E_VALUE, f"{value!r} is neither y, m nor n", f"write '{switch}', or '\"{value}\"' for the text")


def _uri(value: str) -> Problem | None:
    """An address with its scheme; git's short form and a bare host name are told how to write it."""
    if re.fullmatch(_URI, value):
        return None
    short = re.fullmatch(r"(?:[\w.-]+@)?([\w-]+(?:\.[\w-]+)+)[:/]?([!-9;-~]*)", value, re.ASCII)
    fix = f"write 'https://{short[1]}/{short[2]}'" if short else "begin with the scheme: 'https://…'"
    return Problem(Code.E_VALUE, f"{value!r} is not a URI", fix)


def _module_name(value: str) -> Problem | None:
    if not value.strip() or len(value) > _NAME_MAX_BYTES:
        return Problem(Code.E_VALUE, "is empty or longer than 255 characters")
    return _line(value)


def _program_path(value: str) -> Problem | None:
    if value == "/" or len(value.encode()) > _PROGRAM_PATH_BYTES:
        text = f"is '/' or longer than {_PROGRAM_PATH_BYTES} bytes, which tdx-guest refuses"
        return Problem(Code.E_PATH, text, "give a shorter path below a folder")
    return None


def _optional(check: Any) -> Any:
    """The same constraint, with the empty string for "not set"."""
    return lambda value: None if value == "" else check(value)


def _pattern(pattern: str, what: str) -> Any:
    def check(value: str) -> Problem | None:
        if re.fullmatch(pattern, value):
            return None
        return Problem(Code.E_VALUE, f"{value!r} is not {what}")

    return check


def _matching(pattern: str, noun: str) -> Constraint:
    return Constraint(check=_pattern(pattern, noun), noun=noun, pattern=f"^(?:{pattern})$")


def _matching_or_empty(pattern: str, noun: str) -> Constraint:
    return Constraint(check=_optional(_pattern(pattern, noun)), noun=noun, pattern=f"^(?:{pattern})?$")


def _line(value: str) -> Problem | None:
    if any((ch < " " and ch != "\t") or ch in "\x7f\x85\u2028\u2029" for ch in value):
        return Problem(Code.E_VALUE, f"{value!r} holds a line break or another control character")
    return None


def _command(value: str) -> Problem | None:
    if not value.strip():
        return Problem(Code.E_VALUE, "is empty")
    return _line(value)


SHELL_SHEBANG = re.compile(r"#! *(?:/usr/bin/env +)?(?:/usr)?(?:/bin/)?(?:ba|da)?sh(?: .*)?")
"""A first line that names a shell."""


def _script(value: str) -> Problem | None:
    if not value.strip():
        return Problem(Code.E_VALUE, "is empty")
    if "\0" in value:
        return Problem(Code.E_VALUE, "holds a NUL character")
    first = value.lstrip().partition("\n")[0].rstrip()
    if first.startswith("#!") and not SHELL_SHEBANG.fullmatch(first):
        fix = "write shell text that runs a file with the program"
        return Problem(Code.E_VALUE, f"is run by the shell, and begins with {first!r}", fix)
    return None


_LOOKS_OCTAL = frozenset({400, 440, 444, 500, 550, 555, 600, 640, 644, 660, 664, 666, 700, 750, 755, 770, 775, 777})
"""Decimal numbers that nobody means as decimal: none of them, read as bits, is a mode in use."""

_MODE_PATTERN = "0?[0-7]{3,4}"


def _mode(value: int | str) -> Problem | None:
    if isinstance(value, str):
        if re.fullmatch(_MODE_PATTERN, value):
            return None
        return Problem(Code.E_VALUE, f"{value!r} is not a file mode", "write three or four octal digits: '0644'")
    if value in _LOOKS_OCTAL:
        return Problem(Code.E_VALUE, f"{value} is a decimal number; file modes are octal", f"write 0o{value}")
    if not 0 <= value <= _MODE_MAX:
        return Problem(Code.E_VALUE, f"{value} is not between 0 and 0o7777")
    return None


_MODE_MAX = 0o7777


def mode_bits(value: int | str) -> int:
    """A mode's permission bits; text is octal, as chmod(1) reads it."""
    return int(value, 8) if isinstance(value, str) else value


def _between(low: int, high: int, noun: str) -> Constraint:
    def check(value: int) -> Problem | None:
        return None if low <= value <= high else Problem(Code.E_VALUE, f"{value} is not between {low} and {high}")

    return Constraint(check=check, noun=noun, minimum=low, maximum=high)


def _json_problem(value: object, depth: int = 0) -> Problem | None:
    if depth > 32:
        return Problem(Code.E_LIMIT, "is nested more than 32 levels deep")
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                return Problem(Code.E_TYPE, f"has the key {key!r}, which is not a string")
            if problem := _json_problem(item, depth + 1):
                return _below(f"[{key!r}]", problem)
        return None
    if isinstance(value, list | tuple):
        found = ((index, _json_problem(item, depth + 1)) for index, item in enumerate(value))
        return next((_below(f"[{index}]", problem) for index, problem in found if problem), None)
    if isinstance(value, SecretReference):
        return secret_problem(value)
    if value is None or isinstance(value, str | bool | int):
        return None
    fix = "write it as a string: its text is then the same everywhere" if isinstance(value, float) else ""
    return Problem(Code.E_TYPE, f"holds {describe(value)}; only text, integers, booleans, lists and mappings", fix)


def _below(place: str, problem: Problem) -> Problem:
    """A secret is reported with the way to it; other faults are plain without."""
    if problem.code is not Code.E_SECRET:
        return problem
    gap = "" if problem.text.startswith("[") else " "
    return records.evolve(problem, text=f"{place}{gap}{problem.text}")


_UNIT_SUFFIX = r"(?:service|socket|device|mount|automount|swap|target|path|timer|slice|scope)"
_UNIT_STEM = r"[A-Za-z0-9:_.\\@-]{1,240}"
_USER = r"[a-z_][a-z0-9_-]{0,30}"

_TIME_UNIT = "(?:us|µs|μs|usec|ms|msec|s|sec|seconds?|m|min|minutes?|h|hr|hours?|d|days?|w|weeks?|M|months?|y|years?)"
_TIME_SPAN = (
    rf"[0-9]+(?:\.[0-9]*)?(?: *{_TIME_UNIT})?(?:(?: +|(?<=[a-zA-Z]))[0-9]+(?:\.[0-9]*)?(?: *{_TIME_UNIT})?)*|infinity"
)
"""parse_time of systemd's src/basic/time-util.c: numbers with a unit each, added up."""

Text = Annotated[
    str,
    Constraint(
        check=lambda value: Problem(Code.E_VALUE, "holds a NUL character") if "\0" in value else None, noun="a string"
    ),
]
Line = Annotated[str, Constraint(check=_line, noun="a string of one line")]
Command = Annotated[str, Constraint(check=_command, noun="a command line")]
ShellText = Annotated[str, Constraint(check=_script, noun="shell text")]
GuestPath = Annotated[str, Constraint(check=_guest_path, noun="an absolute path in the image", pattern="^/")]
GuestFile = Annotated[str, Constraint(check=_guest_file, noun="an absolute path in the image", pattern="^/.")]
OptionalGuestPath = Annotated[
    str, Constraint(check=_optional(_guest_path), noun="an absolute path in the image", pattern="^(?:/.*)?$")
]
DevicePath = Annotated[str, Constraint(check=_device, noun="an absolute path in the image", pattern="^/.")]
ModuleName = Annotated[str, Constraint(check=_module_name, noun="the name of a module")]
ProgramPath = Annotated[
    GuestFile, Constraint(check=_program_path, noun="an absolute path of at most 512 bytes", pattern="^/.")
]
OptionalProgramPath = Annotated[
    OptionalGuestPath,
    Constraint(check=_optional(_program_path), noun="an absolute path of at most 512 bytes", pattern="^(?:/.+)?$"),
]
EnvironmentFile = Annotated[
    str,
    Constraint(
        check=lambda value: _guest_file(value.removeprefix("-")),
        noun="an absolute path, with '-' before it where the file may be missing",
        pattern="^-?/.",
    ),
]
HostPath = str | os.PathLike[str]
Strings = list[Line] | tuple[Line, ...]
UserName = Annotated[str, _matching(_USER, "a user or group name (a-z, 0-9, '_' and '-', at most 31)")]
OptionalUserName = Annotated[str, _matching_or_empty(_USER, "a user or group name (a-z, 0-9, '_' and '-', at most 31)")]
UserNames = list[UserName] | tuple[UserName, ...]
ServiceName = Annotated[str, _matching(_UNIT_STEM, "a unit name (letters, digits and any of ':_.@-')")]
UnitName = Annotated[
    str, _matching(rf"{_UNIT_STEM}\.{_UNIT_SUFFIX}", "a unit name with its suffix, such as 'a.socket'")
]
UnitReference = Annotated[str, _matching(_UNIT_STEM, "a unit name (letters, digits and any of ':_.@-')")]
UnitReferences = list[UnitReference] | tuple[UnitReference, ...]
TargetName = Annotated[str, _matching(rf"{_UNIT_STEM}\.target", "the name of a target, such as 'minimal.target'")]
SectionName = Annotated[str, _matching(r"[A-Za-z][A-Za-z0-9-]*", "a section name")]
DirectiveName = Annotated[str, _matching(r"[A-Za-z][A-Za-z0-9-]*", "a directive name")]
StepName = Annotated[str, _matching_or_empty(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "a name (letters, digits and '._-')")]
StepNames = list[StepName] | tuple[StepName, ...]
ProfileName = Annotated[str, _matching(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", "a name (letters, digits, '_' and '-')")]
ImageName = Annotated[str, _matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", "a name (letters, digits and '._-')")]
Version = Annotated[str, _matching_or_empty(r"[A-Za-z0-9][A-Za-z0-9.+~:_-]{0,127}", "a version")]
PackageName = Annotated[
    str,
    _matching(
        r"[A-Za-z0-9][A-Za-z0-9+._-]*(?::[a-z0-9]+)?(?:[=/][A-Za-z0-9][A-Za-z0-9+.~:_-]*)?",
        "a package name (optionally name=version or name/suite)",
    ),
]
PackageNames = list[PackageName] | tuple[PackageName, ...]
SuiteName = Annotated[str, _matching(r"[A-Za-z0-9][A-Za-z0-9+._/-]*", "a suite name")]
SuiteNames = list[SuiteName] | tuple[SuiteName, ...]
_URI = r"[a-z][a-z0-9+.-]*://?[!-~]+"
Uri = Annotated[str, Constraint(check=_uri, noun="a URI", pattern=f"^(?:{_URI})$")]
OptionalUri = Annotated[str, Constraint(check=_optional(_uri), noun="a URI", pattern=f"^(?:{_URI})?$")]
Snapshot = Annotated[str, _matching_or_empty(r"\d{8}T\d{6}Z", "a point in time such as '20251113T083151Z'")]
Sha256 = Annotated[str, _matching_or_empty(r"[0-9a-f]{64}", "a SHA-256 in 64 lower-case hex digits")]
EnvironmentName = Annotated[str, _matching(r"[A-Za-z_][A-Za-z0-9_]*", "an environment variable name")]
Capability = Annotated[str, _matching(r"CAP_[A-Z0-9_]+", "a capability such as 'CAP_NET_ADMIN'")]
TimeSpan = Annotated[str, _matching_or_empty(_TIME_SPAN, "a time span of systemd.time(7), such as '5s' or '1min 30s'")]
RelativeDirectory = Annotated[
    str, _matching_or_empty(r"(?!\.)[A-Za-z0-9_.@-]+(?:/(?!\.)[A-Za-z0-9_.@-]+)*", "a relative directory name")
]
Mode = Annotated[
    int | str,
    Constraint(
        check=_mode,
        noun="a file mode such as 0o644 or '0644'",
        pattern=f"^{_MODE_PATTERN}$",
        minimum=0,
        maximum=_MODE_MAX,
    ),
]
Port = Annotated[int, _between(1, 65535, "a port number")]
Ports = list[Port] | tuple[Port, ...]
SecretName = Annotated[str, _matching(r"[a-z][a-z0-9_]{0,63}", "the name of a secret (a-z, 0-9 and '_')")]
SecretNames = list[SecretReference | SecretName] | tuple[SecretReference | SecretName, ...]
Id = Annotated[int, _between(1, 65533, "a user or group id from 1 to 65533")]
Priority = Annotated[int, _between(0, 9999, "a priority from 0 to 9999")]
PinPriority = Annotated[int, _between(1, 1000, "an APT pin priority from 1 to 1000")]
Variables = Annotated[Mapping[str, object], Constraint(check=_json_problem, noun="a mapping of names to values")]
DirectiveValue = str | int | bool | list[str | int | bool] | tuple[str | int | bool, ...]
Directives = Mapping[DirectiveName, DirectiveValue]
Sections = Mapping[SectionName, Directives]
Environment = Mapping[EnvironmentName, Text]
OptionalServiceName = Annotated[str, _matching_or_empty(_UNIT_STEM, "a unit name (letters, digits and any of ':_.@-')")]
OptionName = Annotated[str, _matching(r"(?:CONFIG_)?[A-Za-z0-9_]+", "a kernel option")]
OptionValue = Annotated[str | int | bool, Constraint(check=_option, noun="y, m, n, true, false, a number or text")]
CommandLine = Annotated[str, Constraint(check=_line, noun="a kernel command line")]
Size = Annotated[
    str | int,
    Constraint(
        check=lambda value: (
            None if size_bytes(value) else Problem(Code.E_VALUE, f"{value!r} is not a size", "write '2G'")
        ),
        noun="a size such as '2G' (K, M, G, T are powers of 1024)",
    ),
]


def size_bytes(value: str | int) -> int:
    """A size in bytes, suffixes as systemd-repart reads them (repart.d(5), ``SizeMinBytes=``); 0 for what is none."""
    if isinstance(value, int):
        return max(value, 0)
    match = re.fullmatch(r"([1-9][0-9]{0,14})([KMGT]?)", value)
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[match[2]] if match else 0


CpuCount = Annotated[int, _between(1, 1024, "a number of CPUs")]
LimaSize = Annotated[str, _matching(r"[1-9][0-9]*(?:KiB|MiB|GiB|TiB)", "a size such as '12GiB'")]
PartitionLabel = Annotated[
    str, _matching_or_empty(r"[A-Za-z0-9][A-Za-z0-9._-]{0,35}", "a partition label of at most 36 characters")
]
Locale = Annotated[
    str, _matching(r"[A-Za-z]+(?:_[A-Z]+)?(?:\.[A-Za-z0-9-]+)?(?:@[a-z]+)?", "a locale such as 'C.UTF-8'")
]
BASE_NAMES = tuple(base.reference for base in KNOWN_BASES)


def _base(value: str) -> Problem | None:
    if value in BASE_NAMES:
        return None
    close = nearest(value, BASE_NAMES)
    known = f"known bases: {', '.join(BASE_NAMES)}"
    return Problem(
        Code.E_VALUE, f"'{value}' is not a known base", f"did you mean '{close}'? {known}" if close else known
    )


def _init(value: str) -> Problem | None:
    if value in {"systemd", "busybox"}:
        return None
    if not value.startswith("/"):
        return Problem(Code.E_VALUE, f"'{value}' is no known init", "write 'systemd', 'busybox' or an absolute path")
    return _guest_file(value)


BaseName = Annotated[
    str, Constraint(check=_base, noun="a base such as 'debian/trixie'", pattern=f"^(?:{'|'.join(BASE_NAMES)})$")
]
Init = Annotated[str, Constraint(check=_init, noun="'systemd', 'busybox' or an absolute path")]
HostName = Annotated[str, _matching(r"[A-Za-z0-9:][A-Za-z0-9.:-]{0,252}", "a host name or an IP address")]
HostNames = list[HostName] | tuple[HostName, ...]
