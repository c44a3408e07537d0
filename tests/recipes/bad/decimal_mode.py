from tdx import Image

img = Image("bad")
img.file("/usr/bin/x", content="#!/bin/sh\n", mode=755)
