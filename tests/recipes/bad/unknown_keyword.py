from tdx import Image

img = Image("bad")
img.service("app", exec="/usr/bin/app", restrat="always")
