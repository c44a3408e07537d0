from tdx import Image

img = Image("bad")
img.file("/etc/motd", content="one")
img.file("/etc/motd", content="two")
