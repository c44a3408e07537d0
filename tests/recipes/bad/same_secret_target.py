from tdx import Image, SecretTarget
from tdx.modules import SecretDelivery

img = Image("bad", base="debian/trixie")
delivery = SecretDelivery()
delivery.secret("one", targets=[SecretTarget.file("/run/secrets/token")])
delivery.secret("two", targets=[SecretTarget.file("/run/secrets/token")])
delivery.apply(img)
