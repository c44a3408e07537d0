from tdx import Build, Image

img = Image("bad", base="debian/trixie")
img.build(
    Build.script(
        "hello",
        build_script="make install",
        env={"CFLAGS": "-O2", "DESTDIR": "/tmp/hello", "UID": "1000"},
        artifacts={"hello": "/usr/bin/hello"},
    )
)
