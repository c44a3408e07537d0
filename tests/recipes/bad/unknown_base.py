from tdx import Image

img = Image("bad", base="debian/trixy")
