"""A kernel built from source: which source, how it is configured, and the build that makes it.

The source is the distribution's ``linux-source-…`` package (its tarball carries the distribution's patches) or a
tarball that the recipe pins by SHA-256. The configuration starts from the kernel's own defaults, so that a newer
kernel's new defences are on, or from the recipe's ``config_file``.

Facts: packages.debian.org and packages.ubuntu.com list the source packages of each release; Linux 6.7 brought
``CONFIG_TSM_REPORTS`` (Documentation/ABI/testing/configfs-tsm).
"""

from __future__ import annotations

import re
from pathlib import Path

from tdxc import records
from tdxc.diagnostics import Code, DiagnosticSink, Note
from tdxc.grammar import print_option
from tdxc.ir import (
    SOURCE_PACKAGE_PREFIX,
    Artifact,
    Blob,
    BuildLanguage,
    BuildSource,
    Distribution,
    Kernel,
    KernelSource,
    Package,
    ResolvedBuild,
    ResolvedImage,
    ResolvedKernel,
    SourceFile,
    Toolchain,
)
from tdxc.passes.kernel_cmdline import kernel_cmdline
from tdxc.passes.kernel_configuration import OLDEST, configure
from tdxc.passes.kernel_fragments import fragment_files
from tdxc.quoting import shell_comment, shell_word

BUILD_NAME = "kernel"
_SCRIPTS = Path(__file__).parent.parent / "kconfig" / "scripts"
_VERSION = re.compile(r"[0-9]+\.[0-9]+(\.[0-9]+)?(-rc[0-9]+)?")
_TOOLS = ("bc", "bison", "flex", "gcc", "libc6-dev", "libelf-dev", "libssl-dev", "make", "patch", "xz-utils", "zstd")
_FETCH_TOOLS = ("ca-certificates", "curl")

_ENVIRONMENT = (
    ("KBUILD_BUILD_HOST", "tdxvm"),
    ("KBUILD_BUILD_USER", "tdxvm"),
    ("KBUILD_BUILD_VERSION", "1"),
    ("LOCALVERSION", ""),
    ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
)
"""What the kernel would write of the build host into itself (Documentation/kbuild/reproducible-builds.rst); an empty
LOCALVERSION also keeps it from asking git for one. gcc finds its own parts by PATH."""


@records.frozen
class SourcePackage:
    """A source package of a base; ``suite`` is the extra suite that has it, empty for the release's own."""

    version: str
    package: str
    suite: str = ""


SOURCE_PACKAGES: dict[str, tuple[SourcePackage, ...]] = {
    "debian/trixie": (SourcePackage("6.12", "linux-source-6.12"),),
    "debian/bookworm": (SourcePackage("6.12", "linux-source-6.12", "bookworm-backports"),),
    "ubuntu/noble": (SourcePackage("6.8", "linux-source-6.8.0"),),
}
"""By the base's reference, the first one the default."""


def resolve_source_kernel(image: ResolvedImage, sink: DiagnosticSink) -> tuple[ResolvedKernel, ResolvedBuild | None]:
    """The kernel with its configuration, and its build; no build where no source could be chosen."""
    kernel = image.authored_kernel
    for build in image.builds:
        if build.name == BUILD_NAME:
            message = f"a build has the name '{BUILD_NAME}', which is that of the kernel's own"
            sink.add(Code.E_CONFLICT, message, build.span, fix="give the build another name")
    origin = _origin(image, sink)
    configured = configure(image, _series(origin.version) if origin else OLDEST, sink)
    resolved = ResolvedKernel(
        span=kernel.span,
        source=KernelSource.SOURCE,
        package="" if origin is None or kernel.source else _package_name(origin),
        version=origin.version if origin else kernel.version,
        cmdline=kernel_cmdline(kernel, sink),
        options=configured.demanded,
        base_options=configured.base,
        fragments=fragment_files(image, source=kernel.config_file is None, modules=configured.has_modules),
        monolithic=not configured.has_modules,
    )
    return resolved, _build(image, resolved, origin) if origin else None


# --- where the source comes from


def _origin(image: ResolvedImage, sink: DiagnosticSink) -> SourcePackage | None:
    """The source to build; for a tarball only its version matters. Reports what cannot be had."""
    kernel = image.authored_kernel
    if image.base.distribution is Distribution.ALPINE:
        fix = "use base debian/trixie"
        sink.add(Code.E_UNSUPPORTED, "a kernel from source needs Debian or Ubuntu to build in", kernel.span, fix=fix)
        return None
    if kernel.version and not _VERSION.fullmatch(kernel.version):
        message = f"'{kernel.version}' is not the version of a kernel"
        sink.add(Code.E_VALUE, message, kernel.span, fix="write it as kernel.org does: 6.12, 6.13.12 or 6.14-rc1")
        return None
    origin = _tarball(kernel, sink) if kernel.source else _source_package(image, sink)
    if origin is not None and _series(origin.version) < OLDEST:
        sink.add(
            Code.E_KCONFIG,
            f"Linux {origin.version} cannot make TDX quotes",
            kernel.span,
            notes=(Note(message="CONFIG_TSM_REPORTS, through which a guest asks for them, came with Linux 6.7"),),
            fix="use Linux 6.7 or later; 6.12 has long-term support",
        )
        return None
    return origin


def _tarball(kernel: Kernel, sink: DiagnosticSink) -> SourcePackage | None:
    if kernel.package:
        message = f"source= and package='{kernel.package}' both say where the kernel's source comes from"
        sink.add(Code.E_CONFLICT, message, kernel.span, fix="keep one of the two")
        return None
    if kernel.source is None or not kernel.source.tarball or kernel.source.subdir:
        fix = "give source=tarball(url, sha256=…), with the kernel at its top as kernel.org packs it"
        sink.add(Code.E_UNSUPPORTED, "a kernel's source is a whole tarball", kernel.span, fix=fix)
        return None
    if not kernel.version:
        fix = 'add version=, such as version="6.13.12"; the build checks that the tarball holds it'
        sink.add(Code.E_VALUE, "a kernel from a tarball needs its version", kernel.span, fix=fix)
        return None
    return SourcePackage(kernel.version, "")


def _source_package(image: ResolvedImage, sink: DiagnosticSink) -> SourcePackage | None:
    kernel, reference = image.authored_kernel, image.base.reference
    known = SOURCE_PACKAGES.get(reference, ())
    if kernel.package:
        return _named_package(kernel, sink)
    if not kernel.version:
        if known:
            return known[0]
        message = f"no source package of the kernel is known for '{reference}'"
        fix = "name one: Kernel.tdx(package='linux-source-…', version=…), or a tarball with source="
        sink.add(Code.E_UNSUPPORTED, message, image.base.span, fix=fix)
        return None
    found = next((package for package in known if package.version == kernel.version), None)
    if found is None:
        at_hand = ", ".join(f"{p.version} ({_package_name(p)})" for p in known) or "none that is known"
        url = f"https://…/linux-{kernel.version}.tar.xz"
        choices = " or ".join(f'version="{package.version}"' for package in known)
        sink.add(
            Code.E_UNSUPPORTED,
            f"{reference} has no source package of Linux {kernel.version}",
            kernel.span,
            notes=(
                Note(message=f"versions to be had from {reference}: {at_hand}"),
                Note(message="a package of another suite can be named: package='linux-source-VERSION/SUITE'"),
            ),
            fix=f'{choices and f"write {choices}, or "}pin a tarball: source=tarball("{url}", sha256="…")',
        )
    return found


def _named_package(kernel: Kernel, sink: DiagnosticSink) -> SourcePackage | None:
    bare, _, suite = kernel.package.partition("/")
    if not bare.startswith(SOURCE_PACKAGE_PREFIX):
        sink.add(
            Code.E_CONFLICT,
            f"package='{kernel.package}' is a finished kernel, and other arguments ask for one built from source",
            kernel.span,
            fix="leave package out, or version=, config_file=, source= and patches=",
        )
        return None
    version = kernel.version or bare.removeprefix(SOURCE_PACKAGE_PREFIX)
    if not _VERSION.fullmatch(version):
        fix = "name the package of one version, such as linux-source-6.12"
        sink.add(Code.E_VALUE, f"the package '{bare}' does not say which version it is", kernel.span, fix=fix)
        return None
    if _series(version) != _series(bare.removeprefix(SOURCE_PACKAGE_PREFIX)):
        message = f"version='{version}' is not what the package '{bare}' holds"
        sink.add(Code.E_CONFLICT, message, kernel.span, fix="leave version out, or name its package")
        return None
    return SourcePackage(version, bare, suite)


def _series(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"[0-9]+", version)[:2])


def _package_name(origin: SourcePackage) -> str:
    return f"{origin.package}/{origin.suite}" if origin.suite else origin.package


# --- its build


def _build(image: ResolvedImage, kernel: ResolvedKernel, origin: SourcePackage) -> ResolvedBuild:
    authored = image.authored_kernel
    tarball = authored.source
    given = _FETCH_TOOLS if tarball else (_package_name(origin),)
    unpack = ("bzip2",) if image.base.distribution is Distribution.UBUNTU else ()  # how Ubuntu packs its source
    names = sorted({*_TOOLS, *given, *unpack})
    cause = "resolve-kernel: the kernel is built with it"
    sources = "linux.tarball" if tarball else f"/usr/src/{origin.package}.tar.*"
    return ResolvedBuild(
        span=authored.span,
        cause="resolve-kernel: the recipe asks for a kernel from source",
        name=BUILD_NAME,
        language=BuildLanguage.KERNEL,
        source=BuildSource(span=authored.span, files=_source_files(kernel, authored)),
        toolchain=Toolchain(span=authored.span),
        artifacts=(Artifact(span=authored.span, source="out/modules", dest="/usr/lib/modules"),),
        packages=tuple(Package(span=authored.span, cause=cause, name=name) for name in names),
        environment=_ENVIRONMENT,
        fetch=_fetch_text(tarball) if tarball else "",
        compile=_compile_text(_told_version(origin.version), sources),
    )


def _fetch_text(tarball: BuildSource) -> str:
    """The tarball into the source folder, refused when it is not the one that the recipe pins."""
    words = (tarball.tarball, tarball.sha256, "linux.tarball")
    return f"download {' '.join(shell_word(word, span=tarball.span) for word in words)}\n"


def _told_version(version: str) -> str:
    """How the sources of a version name themselves: a candidate has three numbers there (`make kernelversion`)."""
    return re.sub(r"^([0-9]+\.[0-9]+)-rc", r"\1.0-rc", version)


def _compile_text(version: str, sources: str) -> str:
    head = (
        "shopt -s nullglob\n"
        "inputs=$PWD\n"
        f"version={shell_word(version)}\n"
        f"tarballs=({sources})\n"
        'sources=$(realpath "${tarballs[0]}")\n'
        'KBUILD_BUILD_TIMESTAMP=$(LC_ALL=C date --utc --date="@${SOURCE_DATE_EPOCH:-0}")\n'
        "export KBUILD_BUILD_TIMESTAMP\n"
        "modules=$PWD/../out/modules\n"
        "cd ..\n"
    )
    return "\n".join((head, *(step_text(name) for name in ("unpack.sh", "configure.sh", "compile.sh"))))


def step_text(name: str) -> str:
    """A step of the build as shell text, or the program that explains what Kconfig dropped."""
    return (_SCRIPTS / name).read_text(encoding="utf-8")


def _source_files(kernel: ResolvedKernel, authored: Kernel) -> tuple[SourceFile, ...]:
    files = {
        "config": config_text(kernel),
        "requirements": _requirements_text(kernel, authored),
        "why.c": step_text("why.c"),
    }
    made = [SourceFile(span=authored.span, path=path, content=Blob.of_text(text)) for path, text in files.items()]
    patches = [
        records.evolve(patch, path=f"patches/{number:02}-{patch.path.rpartition('/')[2]}")
        for number, patch in enumerate(authored.patches, start=1)
    ]
    return (*made, *patches)


def config_text(kernel: ResolvedKernel) -> str:
    """The .config that the build starts from: the base, then what is demanded, for of a choice the last line counts."""
    return "".join(f"{print_option(option)}\n" for option in (*kernel.base_options, *kernel.options))


def _requirements_text(kernel: ResolvedKernel, authored: Kernel) -> str:
    """One line for each option: how it counts, name, value, reason; separated by tabs."""
    level = "file" if authored.config_file else "default"
    rows = [("asked", option) for option in kernel.options] + [(level, option) for option in kernel.base_options]
    return "".join(
        f"{how}\t{option.name}\t{option.value}\t{shell_comment(option.cause) or 'the recipe asks for it'}\n"
        for how, option in sorted(rows, key=lambda row: row[1].name)
    )
