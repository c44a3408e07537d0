"""Services without systemd: BusyBox's inittab, its boot script, and a script for each service."""

from tdxc_emitters.busybox.emitter import BusyboxEmitter as BusyboxEmitter
