from tdx import Build, Image

img = Image("bad", base="debian/trixie")
img.file("/bin/hello", content="echo hello\n", mode=0o755)
img.build(Build.script("hello", build_script="make", artifacts={"hello": "/usr/bin/hello"}))
