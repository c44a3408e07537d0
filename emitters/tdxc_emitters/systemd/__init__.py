"""systemd units, wants links, presets and boot steps below ``mkosi.extra/``; the graph of the boot order."""

from tdxc_emitters.systemd.emitter import SystemdEmitter as SystemdEmitter
from tdxc_emitters.systemd.unit_file import render_drop_in as render_drop_in
from tdxc_emitters.systemd.unit_file import render_unit as render_unit
