"""Files beside a UKI on the ESP that systemd-stub picks up: credentials, extensions and add-ons.

All of them are measured into PCR 12 (parameters) or 13 (system extensions) and become part of the initrd or of the
command line. Sources: systemd-stub(7), "Companion Files"; ``generate_sidecar_initrds`` and ``load_all_addons`` in
systemd ``src/boot/stub.c``.
"""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class SidecarFile:
    """One companion file; ``name`` is its base name, which is ASCII."""

    name: str
    data: bytes


@attrs.frozen(kw_only=True)
class Sidecars:
    """The companion files of a boot. The ESP-wide ones (``global_``) lie under ``/loader``, the others beside the UKI.

    ``addon_cmdlines`` are the ``.cmdline`` texts of add-ons, ESP-wide ones first, each group sorted by file name.
    ``kernel_cmdline_extra`` is the SMBIOS string that a host may pass; a confidential VM ignores it.
    """

    credentials: tuple[SidecarFile, ...] = ()
    global_credentials: tuple[SidecarFile, ...] = ()
    sysexts: tuple[SidecarFile, ...] = ()
    confexts: tuple[SidecarFile, ...] = ()
    addon_cmdlines: tuple[str, ...] = ()
    kernel_cmdline_extra: str = ""
    boot_secret_disabled: bool = False


NO_SIDECARS = Sidecars()
