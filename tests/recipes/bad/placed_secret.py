from tdx import Image, SecretTarget
from tdx.modules import SecretDelivery

img = Image("bad")
delivery = SecretDelivery(method="env")
delivery.secret("api_token", targets=[SecretTarget.env("API_TOKEN", scope="app")])
delivery.apply(img)
img.service("app", exec="/usr/bin/app", environment_files=["/etc/app.env"])
img.file("/etc/credstore/tdx.secret.api_token", content="correct-horse")
img.file("/etc/app.env", content="API_TOKEN=correct-horse\n")
img.file("/etc/systemd/system/app.service.d/more.conf", content="[Service]\nExecStartPre=/bin/log ${API_TOKEN}\n")
