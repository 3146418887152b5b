# PID 1 of a pretend host: mounts /proc, unmounts the machine's file system, runs /etc/rc, then reaps children.
#
# /etc/rc is sourced, not run, so that what it starts in the background is a child of PID 1 itself.
mount -t proc proc /proc
umount -l /.machine
umask 022
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
mkdir -p /run/sshd /run/lock /var/log
exec >>/var/log/boot.log 2>&1
# Give each boot of this host another boot id, as the kernel does on a real host.
cat /proc/sys/kernel/random/uuid >/run/boot_id
mount --bind /run/boot_id /proc/sys/kernel/random/boot_id
. /etc/rc
: >/run/ready
# `wait` reaps every child, adopted ones too; without it an ended master would stay a zombie.
while :; do
    sleep 2147483647 &
    wait $!
done
