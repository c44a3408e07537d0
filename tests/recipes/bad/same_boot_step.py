from tdx import Image

img = Image("bad")
img.on_boot("true", name="keys")
img.on_boot("true", name="keys")
