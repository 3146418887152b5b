# PID 1 of a pretend host with systemd: prepares the mounts that systemd expects of a container's manager, then becomes
# systemd.
#
#   init-systemd unified | hybrid [CONTROLLER OF VERSION 1]...
cgroups=$1
shift
mount -t proc proc /proc
umount -l /.machine
umask 022
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
mkdir -p /var/log
exec >>/var/log/boot.log 2>&1
# systemd sets limits in /proc/sys that hold for the whole machine, so it must not write there.
mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys
# Give each boot of this host another boot id, as the kernel does on a real host.
cat /proc/sys/kernel/random/uuid >/run/boot_id
mount --bind /run/boot_id /proc/sys/kernel/random/boot_id
# /dev is a mount of its own, or systemd would mount the machine's devtmpfs there.
mkdir /run/dev
mount -t tmpfs -o mode=755,size=4m tmpfs /run/dev
cp -ax /dev/. /run/dev
mount --move /dev/pts /run/dev/pts
mount --move /dev/shm /run/dev/shm
mount --move /run/dev /dev
rmdir /run/dev
case $cgroups in
    unified) mount -t cgroup2 cgroup2 /sys/fs/cgroup ;;
    hybrid)
        mount -t tmpfs -o mode=755,size=1m tmpfs /sys/fs/cgroup
        for name; do
            mkdir "/sys/fs/cgroup/$name"
            mount -t cgroup -o "$name" cgroup "/sys/fs/cgroup/$name"
        done
        mkdir /sys/fs/cgroup/systemd /sys/fs/cgroup/unified
        mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
        mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
        # systemd mounts every controller that is listed there, also those that are the machine's alone.
        grep -E "^#|^($(echo "$*" | tr ' ' '|'))[[:space:]]" /proc/cgroups >/run/cgroups
        mount --bind /run/cgroups /proc/cgroups
        ;;
esac
# Without the rights to load modules and to set the clock: both are the machine's.
exec env -i container=fleet-lab PATH="$PATH" setpriv --bounding-set -sys_module,-sys_time,-sys_rawio \
    /lib/systemd/systemd --system --log-target=journal --show-status=no
