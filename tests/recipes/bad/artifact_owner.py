from tdx import Build, Image, artifact

img = Image("bad", base="debian/trixie")
img.user("node", system=True)
img.build(
    Build.script(
        "tool",
        build_script="make",
        artifacts={"bin": artifact("/bin", owner="node"), "data": artifact("/opt/suite/data", owner="node")},
    )
)
with img.profile("whole"):
    img.build(Build.script("suite", build_script="make", artifacts={"out": "/opt/suite"}))
