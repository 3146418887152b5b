# PID 1 of a pretend host: mounts /proc, lets go of the machine's file system, starts what the disk says, then reaps.
#
# /etc/rc is sourced, not run, so that what it starts in the background is a child of PID 1 itself.
mount -t proc proc /proc
umount -l /.machine
umask 022
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
mkdir -p /run/sshd /run/lock /var/log
exec >>/var/log/boot.log 2>&1
# A boot of this host is a boot: what is told apart by the kernel's boot id must see another one.
cat /proc/sys/kernel/random/uuid >/run/boot_id
mount --bind /run/boot_id /proc/sys/kernel/random/boot_id
. /etc/rc
: >/run/ready
# `wait` reaps every child, adopted ones too; without it a master that has quit would stay a zombie for ever.
while :; do
    sleep 2147483647 &
    wait $!
done
