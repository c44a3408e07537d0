from tdx import Image, SecretTarget
from tdx.modules import SecretDelivery

img = Image("x", base="debian/trixie")
delivery = SecretDelivery()
delivery.apply(img)
delivery.secret("api_token", targets=[SecretTarget.env("API_TOKEN")])
