from tdx import Image, SecretTarget
from tdx.modules import SecretDelivery

img = Image("x", base="debian/trixie")
delivery = SecretDelivery(method="http_post")
token = delivery.secret("api_token", targets=[SecretTarget.file("/run/secrets/api-token")])
delivery.apply(img)
img.service("app", exec="/usr/bin/app", secrets=[token], early=True)
img.service("net", exec="/usr/bin/net --dir /run/secrets", before=["network.target"])
img.file(
    "/etc/systemd/system/raw.service",
    content="[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/usr/bin/raw file:///run/secrets/api-token\n",
)
