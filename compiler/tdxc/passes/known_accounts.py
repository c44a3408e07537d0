"""Users and groups that a Debian or Ubuntu root file system has without being told.

Sources: base-passwd's passwd.master and group.master (static ids, which never change), and the sysusers.d files that
the systemd and dbus packages bring (names only: their ids are given when the package is installed).
"""

from __future__ import annotations

STATIC_USERS: dict[str, int] = {
    "root": 0,
    "daemon": 1,
    "bin": 2,
    "sys": 3,
    "sync": 4,
    "games": 5,
    "man": 6,
    "lp": 7,
    "mail": 8,
    "news": 9,
    "uucp": 10,
    "proxy": 13,
    "www-data": 33,
    "backup": 34,
    "list": 38,
    "irc": 39,
    "_apt": 42,
    "nobody": 65534,
}
STATIC_GROUPS: dict[str, int] = {
    "root": 0,
    "daemon": 1,
    "bin": 2,
    "sys": 3,
    "adm": 4,
    "tty": 5,
    "disk": 6,
    "lp": 7,
    "mail": 8,
    "news": 9,
    "uucp": 10,
    "man": 12,
    "proxy": 13,
    "kmem": 15,
    "dialout": 20,
    "fax": 21,
    "voice": 22,
    "cdrom": 24,
    "floppy": 25,
    "tape": 26,
    "sudo": 27,
    "audio": 29,
    "dip": 30,
    "www-data": 33,
    "backup": 34,
    "operator": 37,
    "list": 38,
    "irc": 39,
    "src": 40,
    "shadow": 42,
    "utmp": 43,
    "video": 44,
    "sasl": 45,
    "plugdev": 46,
    "staff": 50,
    "games": 60,
    "users": 100,
    "nogroup": 65534,
}
DYNAMIC_USERS = frozenset({"systemd-network", "systemd-resolve", "systemd-timesync", "messagebus"})
DYNAMIC_GROUPS = DYNAMIC_USERS | {
    *("systemd-journal", "crontab", "input", "render", "kvm", "sgx", "clock", "netdev", "_ssh", "tss"),
}

KNOWN_USERS = frozenset(STATIC_USERS) | DYNAMIC_USERS
KNOWN_GROUPS = frozenset(STATIC_GROUPS) | DYNAMIC_GROUPS
