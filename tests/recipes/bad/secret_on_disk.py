from tdx import Image, SecretTarget
from tdx.modules import SecretDelivery

img = Image("bad", base="debian/trixie")
delivery = SecretDelivery()
delivery.secret("token", targets=[SecretTarget.file("/etc/app/token")])
