from tdx import Image
from tdx.modules import Devtools

img = Image("bad", base="debian/trixie")
Devtools(root_password="hunter2").apply(img)  # noqa: S106 - the fault that this recipe is for
