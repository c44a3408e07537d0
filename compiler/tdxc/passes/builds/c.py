"""How C and C++ projects are compiled with CMake, Meson, a configure script or plain make.

Compilers get ``-ffile-prefix-map`` (GCC manual, "Overall Options"), archives are written without times and owners
(ar(1), modifier D), and ``SOURCE_DATE_EPOCH`` stands for ``__DATE__`` (reproducible-builds.org).
"""

from __future__ import annotations

from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import Build
from tdxc.passes.builds.recipe import Recipe, command, folder, has_file, words

SYSTEMS = ("cmake", "meson", "configure", "make")
_MARKS = {
    "CMakeLists.txt": "cmake",
    "meson.build": "meson",
    "configure": "configure",
    "configure.ac": "configure",
    "Makefile": "make",
    "GNUmakefile": "make",
    "makefile": "make",
}
_PACKAGES = {
    "cmake": ("cmake", "ninja-build"),
    "meson": ("meson", "ninja-build"),
    "configure": ("autoconf", "automake", "libtool", "make"),
    "make": ("make",),
}
_ARCHIVES = (
    "-DCMAKE_C_ARCHIVE_CREATE='<CMAKE_AR> qcD <TARGET> <LINK_FLAGS> <OBJECTS>'",
    "-DCMAKE_CXX_ARCHIVE_CREATE='<CMAKE_AR> qcD <TARGET> <LINK_FLAGS> <OBJECTS>'",
    "-DCMAKE_C_ARCHIVE_FINISH='<CMAKE_RANLIB> -D <TARGET>'",
    "-DCMAKE_CXX_ARCHIVE_FINISH='<CMAKE_RANLIB> -D <TARGET>'",
)


def c(build: Build) -> Recipe:
    """The steps of the build system that the recipe names, or that the source shows."""
    system = build.system or _found_system(build)
    home = folder(build.name)
    flags = f"-O2 -ffile-prefix-map={home}/source=/usr/src/{build.name}"
    version = build.toolchain.version
    suffix = f"-{version.partition('.')[0]}" if version and not build.toolchain.url else ""
    below = "build/" if system in {"cmake", "meson"} else ""
    inside = f"{build.source.subdir}/" if build.source.subdir else ""
    return Recipe(
        compile=_compile(build, system),
        version_command=f"gcc{suffix} -dumpfullversion",
        packages=("libc6-dev", "pkg-config", *(() if suffix else ("g++", "gcc")), *_PACKAGES[system]),
        environment=(("ARFLAGS", "crD"), ("CC", f"gcc{suffix}"), ("CXX", f"g++{suffix}")),
        appended=(
            ("CFLAGS", flags),
            ("CXXFLAGS", flags),
            *((("LDFLAGS", build.ldflags),) if build.ldflags else ()),
        ),
        output=f"source/{inside}{below}{build.program}",
    )


def _found_system(build: Build) -> str:
    fix = f"say which with system=: {', '.join(repr(system) for system in SYSTEMS)}"
    if not build.source.is_local:
        message = f"build '{build.name}': how a source is built that is fetched while baking cannot be seen now"
        raise DiagnosticError.of(Code.E_VALUE, message, build.span, fix=fix)
    for mark, system in _MARKS.items():
        if has_file(build, mark):
            return system
    message = f"build '{build.name}': the source has no {', '.join(_MARKS)}, so nothing says how it is built"
    raise DiagnosticError.of(Code.E_VALUE, message, build.source.span, fix=fix)


def _compile(build: Build, system: str) -> str:
    options = words(build, *build.options)
    if system == "cmake":
        configure = command(
            "cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX=/usr",
            *_ARCHIVES,
            options,
        )
        return f"{configure}\ncmake --build build"
    if system == "meson":
        configure = command("meson setup build --buildtype=release --prefix=/usr --wrap-mode=nodownload", options)
        return f"{configure}\nmeson compile -C build"
    if system == "configure":
        configure = command("./configure --prefix=/usr --disable-dependency-tracking", options)
        return f'[[ -x configure ]] || autoreconf --force --install\n{configure}\nmake -j"$(nproc)"'
    return command('make -j"$(nproc)"', options)
