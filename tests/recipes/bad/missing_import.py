import no_such_module
from tdx import Image

img = Image(no_such_module.NAME)
