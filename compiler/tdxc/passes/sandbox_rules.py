"""Data of the default sandbox: each directive with its reason, and what each capability opens again.

Directives are of systemd.exec(5) and systemd.resource-control(5) and known to systemd 252 (Debian bookworm) and later.
None needs a root other than the initramfs: systemd 257 moves its mounts with MS_MOVE where pivot_root(2) is refused.
"""

from __future__ import annotations

from tdxc import records


@records.frozen
class Rule:
    """One default: ``key=value`` because of ``reason``. Of a list, later lines of the recipe add to the default."""

    key: str
    value: str
    reason: str
    is_list: bool = False


DEFAULT_RULES: tuple[Rule, ...] = (
    Rule("NoNewPrivileges", "yes", "set-user-ID programs give it nothing"),
    Rule("CapabilityBoundingSet", "", "it declares no capability", is_list=True),
    Rule("AmbientCapabilities", "", "it declares no capability", is_list=True),
    Rule("ProtectSystem", "strict", "it writes only where it declares"),
    Rule("ProtectHome", "yes", "it declares no path in a home directory"),
    Rule("PrivateTmp", "yes", "its temporary files are its own"),
    Rule("PrivateDevices", "yes", "it declares no device"),
    Rule("DevicePolicy", "closed", "it opens only the devices it declares"),
    Rule("ProtectKernelTunables", "yes", "it does not set kernel parameters"),
    Rule("ProtectKernelModules", "yes", "it does not load kernel modules"),
    Rule("ProtectKernelLogs", "yes", "it does not read the kernel log"),
    Rule("ProtectControlGroups", "yes", "it does not manage control groups"),
    Rule("ProtectClock", "yes", "it does not set the clock"),
    Rule("ProtectHostname", "yes", "it does not set the host name"),
    Rule("ProtectProc", "invisible", "it sees no process of other users"),
    Rule("ProcSubset", "pid", "of /proc it sees processes only"),
    Rule("RestrictNamespaces", "yes", "it creates no namespaces"),
    Rule("RestrictRealtime", "yes", "it takes no realtime scheduling"),
    Rule("RestrictSUIDSGID", "yes", "it makes no set-user-ID files"),
    Rule("LockPersonality", "yes", "it runs no foreign binaries"),
    Rule("MemoryDenyWriteExecute", "yes", "it makes no code at run time"),
    Rule("KeyringMode", "private", "it shares no kernel keyring"),
    Rule("RemoveIPC", "yes", "its IPC objects end with it"),
    Rule("UMask", "0077", "its files are its own"),
    Rule("RestrictAddressFamilies", "AF_UNIX AF_NETLINK AF_INET AF_INET6", "plain networking", is_list=True),
    Rule("SystemCallArchitectures", "native", "it runs no foreign binaries"),
    Rule("SystemCallFilter", "@system-service", "system calls of ordinary services", is_list=True),
    Rule("SystemCallFilter", "~@privileged @resources", "it declares no capability that needs more", is_list=True),
    Rule("SystemCallErrorNumber", "EPERM", "a refused system call is an error that it can handle"),
)
"""In the order in which they are written."""


@records.frozen
class Grant:
    """What a capability needs beside itself: system calls, address families, and defaults that would take it back."""

    system_calls: str = ""
    families: str = ""
    without: tuple[str, ...] = ()


CAPABILITY_GRANTS: dict[str, Grant] = {
    "CAP_AUDIT_CONTROL": Grant(),
    "CAP_AUDIT_READ": Grant(),
    "CAP_AUDIT_WRITE": Grant(),
    "CAP_BLOCK_SUSPEND": Grant(),
    "CAP_BPF": Grant("bpf"),
    "CAP_CHECKPOINT_RESTORE": Grant(),
    "CAP_CHOWN": Grant("@chown"),
    "CAP_DAC_OVERRIDE": Grant(),
    "CAP_DAC_READ_SEARCH": Grant("open_by_handle_at"),
    "CAP_FOWNER": Grant(),
    "CAP_FSETID": Grant(),
    "CAP_IPC_LOCK": Grant("@memlock"),
    "CAP_IPC_OWNER": Grant(),
    "CAP_KILL": Grant(),
    "CAP_LEASE": Grant(),
    "CAP_LINUX_IMMUTABLE": Grant(),
    "CAP_MAC_ADMIN": Grant(),
    "CAP_MAC_OVERRIDE": Grant(),
    "CAP_MKNOD": Grant("mknod mknodat", without=("PrivateDevices",)),
    "CAP_NET_ADMIN": Grant(),
    "CAP_NET_BIND_SERVICE": Grant(),
    "CAP_NET_BROADCAST": Grant(),
    "CAP_NET_RAW": Grant(families="AF_PACKET"),
    "CAP_PERFMON": Grant("perf_event_open"),
    "CAP_SETFCAP": Grant(),
    "CAP_SETGID": Grant("@setuid"),
    "CAP_SETPCAP": Grant("capset"),
    "CAP_SETUID": Grant("@setuid"),
    "CAP_SYS_ADMIN": Grant("@mount"),
    "CAP_SYS_BOOT": Grant("@reboot"),
    "CAP_SYS_CHROOT": Grant("chroot"),
    "CAP_SYS_MODULE": Grant("@module", without=("ProtectKernelModules",)),
    "CAP_SYS_NICE": Grant("@resources", without=("RestrictRealtime",)),
    "CAP_SYS_PACCT": Grant("acct"),
    "CAP_SYS_PTRACE": Grant("@debug", without=("ProtectProc",)),
    "CAP_SYS_RAWIO": Grant("@raw-io", without=("PrivateDevices",)),
    "CAP_SYS_RESOURCE": Grant("@resources"),
    "CAP_SYS_TIME": Grant("@clock", without=("ProtectClock",)),
    "CAP_SYS_TTY_CONFIG": Grant("vhangup"),
    "CAP_SYSLOG": Grant("syslog", without=("ProtectKernelLogs",)),
    "CAP_WAKE_ALARM": Grant(without=("ProtectClock",)),
}
"""Every capability of capabilities(7) up to Linux 6.12, and what the kernel asks for beside it."""

HOME_FOLDERS = ("/home", "/root", "/run/user")
"""What ``ProtectHome=`` hides (systemd.exec(5))."""

TEMPORARY_FOLDERS = ("/tmp", "/var/tmp")  # noqa: S108 - names of what PrivateTmp= replaces, nothing is created here

MANAGED_FOLDERS = (
    ("/var/lib/", "StateDirectory"),
    ("/var/cache/", "CacheDirectory"),
    ("/var/log/", "LogsDirectory"),
    ("/run/", "RuntimeDirectory"),
)
"""Folders below which systemd itself makes a directory that the service owns (systemd.exec(5))."""

PLAIN_KEYS = frozenset(
    {"AmbientCapabilities", "CapabilityBoundingSet", "NoNewPrivileges", "RuntimeDirectoryPreserve", "UMask"}
    | {key for _, key in MANAGED_FOLDERS}
)
"""What of the sandbox needs no systemd: setpriv(1), umask(1) and mkdir(1) can do it."""
