from tdx import Image, SecretSchema
from tdx.modules import SecretDelivery

img = Image("bad", base="debian/trixie")
delivery = SecretDelivery()
delivery.secret("api_token", schema=SecretSchema(pattern="^tok_(?!test)"))
