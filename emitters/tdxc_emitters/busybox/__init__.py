"""Services without systemd: BusyBox's inittab and its boot script."""
