from tdx import Image, SecretSchema
from tdx.modules import SecretDelivery

img = Image("x", base="debian/trixie")
delivery = SecretDelivery()
port = delivery.secret("port", schema=SecretSchema(kind="int", enum=["80", "08"]))
delivery.apply(img)
img.service("app", exec="/usr/bin/app", secrets=[port])
