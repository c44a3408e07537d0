# The first program of the guest: BusyBox takes over, and runs what /etc/inittab says.
exec /bin/busybox init
