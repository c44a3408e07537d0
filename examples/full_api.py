"""Every declaration of the DSL once, each with the smallest sensible arguments."""

from tdx import Build, Image, Kernel, SecretSchema, SecretTarget
from tdx.backends import LocalLinuxBackend
from tdx.modules import Devtools, DiskEncryption, KeyGeneration, SecretDelivery, Tdxs, TimeSynchronisation
from tdx.platforms import AzurePlatform, GcpPlatform
from tdx.policy import Policy

img = Image("full-api", base="debian/trixie", version="1.0", reproducible=True, backend=LocalLinuxBackend())
img.snapshot = "20251113T083151Z"

# The system as a whole
img.kernel = Kernel.tdx(
    cmdline="console=ttyS0,115200n8 quiet",
    config={"CONFIG_UNIX": True},
    fragments=["full_api/guest.config"],
)
img.init = "systemd"
img.default_target = "minimal.target"
img.firmware = "ovmf"
img.locale = None
img.docs = False
img.suite("trixie-backports", priority=100)
img.debloat(enabled=True, keep=["systemd-analyze"], keep_modules=["virtio_rng"])
img.network(
    vsock=True,
    backend="networkd",
    resolver=True,
    firewall_rules=["ACCEPT icmp", "ACCEPT tcp 8443", "ACCEPT udp 30303 from 10.0.0.0/8", "DROP all"],
)

# What the root file system holds
img.install("ca-certificates", "curl")
img.group("data", gid=900)
img.user("app", system=True, uid=901, groups=["data"], home="/var/lib/app", description="Runs the application")
img.directory("/etc/app", mode=0o755)
img.file("/etc/app/app.toml", src="full_api/app.toml")
img.file("/etc/motd", content="Trust domain.\n")
img.template(
    "/etc/app/limits.json",
    src="full_api/limits.json.j2",
    vars={"network": "mainnet", "peers": ["a", "b"], "archive": False},
)
img.symlink("/etc/app/current.toml", target="app.toml")

# Programs from source, and shell in the phases of the build
img.build(
    Build.script(
        name="report",
        src="full_api/tool",
        build_script="make release",
        artifacts={"build/report": "/usr/local/bin/report"},
        build_deps=["gcc", "libc6-dev", "make"],
        env={"CFLAGS": "-O2"},
    ),
)
img.build_packages("git")
img.run("rm -f /usr/lib/systemd/system/multi-user.target.wants/*", name="no-multi-user")
img.run_script("full_api/harden.sh")

# Boot: steps in the order of their priority, then services
img.on_boot("install -m 0644 /etc/app/limits.json /run/limits.json", name="limits", priority=10)
img.on_boot("/usr/local/bin/report", name="report", priority=20, after=["limits"])

# Inside of the guest: a key, a disk that it opens, secrets, and quotes
KeyGeneration(strategy="tpm").apply(img)  # priority 10
DiskEncryption(device="/dev/vda3", mount_at="/persistent").apply(img)  # priority 20
delivery = SecretDelivery(method="http_post")
api_token = delivery.secret(
    "api_token",
    required=True,
    schema=SecretSchema(kind="string", min_length=8, pattern="^tok_"),
    targets=(
        SecretTarget.file("/run/secrets/api-token", owner="app"),
        SecretTarget.env("API_TOKEN", scope="app"),
    ),
)
delivery.apply(img)  # priority 30
Tdxs(issuer="auto", group="tdx").apply(img)
TimeSynchronisation(servers=["time.example.org"]).apply(img)
img.service(
    "app",
    exec="/usr/bin/sleep infinity",
    description="Stands for the application",
    type="exec",
    user="app",
    group="data",
    after=["network-online.target"],
    wants=["network-online.target"],
    environment={"APP_CONFIG": "/etc/app/app.toml", "APP_MODE": "production"},
    working_directory="/etc/app",
    state_directory="app",
    restart="always",
    restart_sec="5s",
    writes=["/run/app"],
    ports=[8443],
    secrets=[api_token],
    overrides={"MemoryDenyWriteExecute": False},
    extra_unit={"Service": {"MemoryMax": "512M", "LimitNOFILE": 65535}},
)
img.service("report", exec="/usr/local/bin/report", type="oneshot", hardening="none", enabled=False)
img.socket("admin", listen_stream=["/run/admin.sock"], socket_mode=0o660, socket_group="data", service="admin")
img.service("admin", exec="/usr/bin/sleep 60", user="app", enabled=False)
img.timer("report", on_boot_sec="5min", on_unit_active_sec="1h")
img.target("app", wants=["app.service"], description="The application and what it needs", wanted_by=["minimal.target"])
img.mount("/var/cache/app", what="tmpfs", type="tmpfs", options=["size=64M", "mode=0755"])
img.unit(
    "app-ready.service",
    {
        "Unit": {"Description": "Marks that the application runs", "After": "app.service"},
        "Service": {"Type": "oneshot", "ExecStart": "/usr/bin/true", "RemainAfterExit": True},
    },
    wanted_by=["app.target"],
)
img.drop_in("systemd-journald.service", {"Service": {"LogLevelMax": "notice"}}, name="50-quiet")

# Platforms and development
img.output_targets("qemu")
with img.profile("azure"):
    AzurePlatform().apply(img)
with img.profile("gcp"):
    GcpPlatform().apply(img)
with img.profile("dev"):
    Devtools(root_password="random").apply(img)  # noqa: S106 - a word that asks for one
    img.install("strace")
    img.network(firewall_rules=["ACCEPT tcp 22"])
    img.ssh(
        enabled=True,
        key_delivery="file",
        authorized_keys=[
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHEwlAlJ/RMB3eGA61UOTISXFdL/wcmuPSpclrde/RZ4 developer@example.org"
        ],
    )

img.set_policy(Policy(mutable_ref_policy="warn", require_integrity=True))
