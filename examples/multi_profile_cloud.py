"""One image for three platforms: QEMU as it is, Azure and Google Cloud as profiles, and a profile for development.

``tdxc compile examples/multi_profile_cloud.py -o out`` writes the image and each profile beside it, and
``tdxc build examples/multi_profile_cloud.py --profile azure`` bakes one variant.
"""

from tdx import Image
from tdx.backends import LocalLinuxBackend
from tdx.modules import TimeSynchronisation
from tdx.platforms import AzurePlatform, GcpPlatform

img = Image("multi-profile-cloud", base="debian/trixie", backend=LocalLinuxBackend())
img.output_targets("qemu")
img.debloat(enabled=True)

img.install("ca-certificates", "curl")
img.network(firewall_rules=["ACCEPT icmp", "ACCEPT tcp 8545", "DROP all"])
TimeSynchronisation(servers=["time1.example.org", "time2.example.org"]).apply(img)

img.user("node", system=True, home="/var/lib/node")
img.template(
    "/etc/node/node.conf",
    content="network = {{ network }}\nport = {{ port }}\n",
    vars={"network": "mainnet", "port": 8545},
)
img.service(
    "node",
    exec="/usr/bin/sleep infinity",
    description="Stands for the program that this image is for",
    user="node",
    state_directory="node",
    after=["network-online.target"],
    wants=["network-online.target"],
    restart="always",
)

with img.profile("azure"):
    AzurePlatform().apply(img)

with img.profile("gcp"):
    GcpPlatform().apply(img)

with img.profile("dev"):
    img.install("strace", "gdb", "vim-tiny")

with img.all_profiles():
    results = img.bake()
