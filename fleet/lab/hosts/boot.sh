# Boots a pretend host: does what must be done before the host's PID 1 starts, then starts it.
#
# It runs in the host's new mount, UTS, IPC and network namespaces, but still in the machine's PID namespace, and prints
# the pid that the host's PID 1 has on the machine. Standard input is the `ip -batch` that makes the host's network link.
#
# INIT is a script of the host with its arguments. A host with cgroups of its own gets their folders in GROUPS, separated
# by spaces: it sees nothing above them.
#
#   boot.sh DISK LAYERS HOSTNAME INIT GROUPS [FOLDER TO SHOW]...
set -eu
disk=$1 layers=$2 name=$3 init=$4 groups=$5
shift 5

for group in $groups; do
    mkdir -p "$group"
    echo $$ >"$group/cgroup.procs"
done
echo "$name" >/proc/sys/kernel/hostname
for switch in /proc/sys/net/ipv6/conf/all/disable_ipv6 /proc/sys/net/ipv6/conf/default/disable_ipv6; do
    if [ -e "$switch" ]; then echo 1 >"$switch"; fi
done
ip -batch -

mount -t overlay -o "lowerdir=$layers:/,upperdir=$disk/upper,workdir=$disk/work" "$name" "$disk/root"
cd "$disk/root"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
if [ -z "$groups" ] && [ -d sys/fs/cgroup ] && [ -d /sys/fs/cgroup ]; then mount --rbind /sys/fs/cgroup sys/fs/cgroup; fi
for folder in "$@"; do
    mkdir -p ".$folder"
    mount --rbind "$folder" ".$folder"
    mount -o remount,bind,ro ".$folder"
done

pivot_root . .machine
cd /
# The first process that is forked after `unshare --pid` is the new namespace's PID 1; nothing may be forked before it.
exec unshare --pid ${groups:+--cgroup} -- /bin/sh -c 'setsid /bin/sh $0 </dev/null >/dev/null 2>&1 & echo $!' "$init"
