# PID 1 of a pretend host with systemd: prepares the mounts that systemd expects of a container's manager, then becomes
# systemd.
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
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# Without the rights to load modules and to set the clock: both are the machine's.
exec env -i container=fleet-lab PATH="$PATH" setpriv --bounding-set -sys_module,-sys_time,-sys_rawio \
    /lib/systemd/systemd --system --log-target=journal --show-status=no
