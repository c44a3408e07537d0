"""Programs built from source, each in an environment of its own, and run at boot: Go, Rust, C and a script.

tdxc build examples/builds.py
"""

from tdx import Build, Image
from tdx.backends import LocalLinuxBackend

img = Image("builds", base="debian/trixie", backend=LocalLinuxBackend())
img.output_targets("qemu")
img.debloat(enabled=True)

img.build(
    Build.go(
        name="hello-go",
        src="./builds/hello-go/",
        go_version="1.24",
        output="/usr/bin/hello-go",
    ),
    Build.rust(
        name="hello-rust",
        src="./builds/hello-rust/",
        toolchain="1.85",
        output="/usr/bin/hello-rust",
    ),
    Build.c(
        name="hello-c",
        src="./builds/hello-c/",
        system="cmake",
        build_deps=["zlib1g-dev"],
        test="ctest --test-dir build --output-on-failure",
        artifacts={"build/hello-c": "/usr/bin/hello-c"},
    ),
    Build.script(
        name="hello-script",
        src="./builds/hello-script/",
        build_script="make release",
        build_deps=["make"],
        artifacts={"build/hello-script": "/usr/bin/hello-script"},
    ),
)

img.install("zlib1g")

for program in ("hello-go", "hello-rust", "hello-c", "hello-script"):
    img.service(
        program,
        exec=f"/usr/bin/{program}",
        type="oneshot",
        extra_unit={"Service": {"StandardOutput": "journal+console"}},
    )
