# Early boot: file systems, modules, kernel parameters, boot steps; then the services, in their order.
set -u
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH

say() {
    echo "boot: $1"
}

# Mount the file system type $1 at $2 with the options $3, unless something is mounted there.
mount_once() {
    busybox mkdir -p "$2"
    if ! busybox grep -q " $2 " /proc/mounts 2>/dev/null; then
        busybox mount -t "$1" -o "$3" "$1" "$2" || say "cannot mount $2"
    fi
}

# The kernel makes the root of an initramfs writable for everybody, like /tmp.
busybox chmod 0755 /
mount_once proc /proc nosuid,nodev,noexec
mount_once sysfs /sys nosuid,nodev,noexec
mount_once devtmpfs /dev nosuid,mode=0755
mount_once devpts /dev/pts nosuid,noexec,gid=5,mode=0620
mount_once tmpfs /dev/shm nosuid,nodev,mode=1777
mount_once tmpfs /run nosuid,nodev,mode=0755
mount_once tmpfs /tmp nosuid,nodev,mode=1777
mount_once cgroup2 /sys/fs/cgroup nosuid,nodev,noexec
busybox mkdir -p /run/lock /run/tdx/services

# Modules: those that are named, then those that the hardware asks for by its aliases.
if [ -d "/lib/modules/$(busybox uname -r)" ] && command -v modprobe >/dev/null; then
    for list in /usr/lib/modules-load.d/*.conf /etc/modules-load.d/*.conf /etc/modules; do
        [ -f "$list" ] || continue
        while read -r module _; do
            case $module in
                '' | '#'* | ';'*) ;;
                *) modprobe -q "$module" || say "no module $module" ;;
            esac
        done <"$list"
    done
    busybox find /sys/devices -name modalias -exec busybox cat {} + | busybox sort -u | while read -r alias; do
        modprobe -q "$alias" || true
    done
fi
if [ -d /sys/kernel/config ]; then
    mount_once configfs /sys/kernel/config nosuid,nodev,noexec
fi

for list in /usr/lib/sysctl.d/*.conf /etc/sysctl.d/*.conf /etc/sysctl.conf; do
    [ -f "$list" ] || continue
    busybox sysctl -e -q -p "$list" >/dev/null 2>&1 || true
done
[ ! -s /etc/hostname ] || busybox hostname -F /etc/hostname
busybox ip link set lo up

# Start each service of a list in its order; a service that fails does not keep others back unless they need it.
start_services() {
    for service in "$1"/*; do
        [ -f "$service" ] || continue
        "$service" </dev/null || say "${service##*/} did not start"
    done
}

start_services /usr/lib/tdx/early-services
if [ -x /usr/bin/runtime-init ] && ! /usr/bin/runtime-init </dev/null; then
    say "a boot step failed: no service is started"
    exit 0
fi
start_services /usr/lib/tdx/services
say "services are started"
