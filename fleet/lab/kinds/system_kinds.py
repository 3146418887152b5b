"""Kinds that differ around nginx: disk and memory, Python, the login, sshd, other programs."""

from fleet.lab.hosts.disk import DEPLOY
from fleet.lab.hosts.nginx import PREFIX
from fleet.lab.hosts.sshd import SFTP
from fleet.lab.kinds.kind import Kind, Limit, until

STATE_DIR = "/var/lib/fleet"
# A substitute: Debian has no Python so old, and with -I -S a real one can't be made to give another version.
OLD_PYTHON = """\
#!/bin/sh
case "$*" in
    *"print(sys.version_info[0], sys.version_info[1])"*) echo 3 5 ;;
    -V | --version) echo Python 3.5.3 ;;
    *) echo "python3: this substitute for Python 3.5 only prints its version" >&2; exit 1 ;;
esac
"""


def _mounted(size: str, folder: str) -> str:
    """Shell that mounts a small file system on nginx's folder and fills it from the disk at each boot."""
    kept = f"{PREFIX}.disk"
    return (
        f"[ -d {kept} ] || {{ mkdir {kept} && cp -a {PREFIX}/sbin {PREFIX}/conf {kept}; }}; "
        f"mount -t tmpfs -o {size} tmpfs {folder} && cp -a {kept}/. {folder} && mkdir {folder}/logs"
    )


SMALL_DISKS = (
    f"[ -d {PREFIX}.disk ] || cp -a {PREFIX}/sbin {PREFIX}.disk; mkdir -p {STATE_DIR}; "
    f"mount -t tmpfs -o size=24m,mode=700 tmpfs {STATE_DIR} && mount -t tmpfs -o size=24m tmpfs {PREFIX}/sbin && "
    f"cp -a {PREFIX}.disk/. {PREFIX}/sbin && mount -t tmpfs -o size=6m tmpfs {PREFIX}/logs"
)

# Debian's sudo. The login's password is locked, so that every password is wrong.
SUDO = (
    ("/etc/sudoers", f"{DEPLOY} ALL=(root) ALL\n@includedir /etc/sudoers.d\n"),
    ("/etc/sudoers.d/README", "# What a host's administrator allows beyond that.\n"),
    ("/etc/pam.d/sudo", "auth required pam_unix.so\naccount required pam_unix.so\nsession required pam_permit.so\n"),
)
MAY_BECOME_ROOT = ("/etc/sudoers.d/fleet", f"{DEPLOY} ALL=(root) NOPASSWD: /bin/sh\n")


KINDS = (
    # Disk and memory
    Kind(
        "full-disk",
        "the file system of the binary is full",
        before=_mounted("size=4m", PREFIX),
        late=f"cat /dev/zero >{PREFIX}/filler 2>/dev/null; true",
    ),
    Kind(
        "no-inodes",
        "the file system of the binary has no free inode",
        before=_mounted("size=64m,nr_inodes=64", PREFIX),
        late=f"mkdir {PREFIX}/filler; n=0; while true 2>/dev/null >{PREFIX}/filler/$n; do n=$((n+1)); done; true",
    ),
    Kind(
        "full-state",
        "the file system of fleet's state folder is full",
        before=f"mkdir -p {STATE_DIR} && mount -t tmpfs -o size=64k,mode=700 tmpfs {STATE_DIR}",
        late=f"cat /dev/zero >{STATE_DIR}/filler 2>/dev/null; true",
    ),
    Kind(
        "state-noexec",
        "fleet's state folder is mounted noexec",
        before=f"mkdir -p {STATE_DIR} && mount -t tmpfs -o noexec,mode=700 tmpfs {STATE_DIR}",
    ),
    Kind(
        "small-disks",
        "the binary, the pid file and fleet's state each have a small file system, new at each boot",
        before=SMALL_DISKS,
    ),
    Kind("memory-short", "the cgroup of nginx has no memory for a second generation", limit=Limit("memory", 2 << 20)),
    Kind("pids-short", "the cgroup of nginx allows no processes for a second generation", limit=Limit("pids", 1)),
    # The login, and what is installed
    Kind("no-python", "Python is not installed", hidden=("/usr/bin/python*", "/usr/libexec/platform-python*")),
    Kind(
        "old-python",
        "the only Python is 3.5 (a substitute that only prints its version)",
        hidden=("/usr/bin/python3.*", "/usr/libexec/platform-python*"),
        files=(("/usr/bin/python3", OLD_PYTHON),),
    ),
    Kind("non-root-user", f"the login is {DEPLOY}, and the inventory does not ask to become root", user=DEPLOY),
    Kind(
        "no-sudo",
        f"the login is {DEPLOY}, which is to become root by sudo, and sudo is not installed",
        hidden=("/usr/bin/sudo", "/usr/bin/sudoedit"),
        user=DEPLOY,
        variables=(("ansible_become", True),),
    ),
    Kind(
        "sudo-password",
        f"the login is {DEPLOY}, and sudo asks it for a password",
        files=SUDO,
        before="chmod 0440 /etc/sudoers",
        user=DEPLOY,
        variables=(("ansible_become", True),),
    ),
    Kind(
        "sudo-user",
        f"the login is {DEPLOY}, which becomes root by sudo without a password",
        files=(*SUDO, MAY_BECOME_ROOT),
        before="chmod 0440 /etc/sudoers",
        user=DEPLOY,
        variables=(("ansible_become", True),),
    ),
    Kind("no-sftp", "sshd has no SFTP subsystem", edit_sshd=lambda text: text.replace(SFTP, "")),
    Kind(
        "no-sftp-no-scp",
        "sshd has no SFTP subsystem, and scp is not installed",
        hidden=("/usr/bin/scp",),
        edit_sshd=lambda text: text.replace(SFTP, ""),
    ),
    Kind(
        "dpkg-locked",
        "a package manager holds dpkg's lock",
        files=(
            (
                "/usr/lib/fleet-lab/lock-dpkg",
                "#!/usr/bin/python3 -I\n"
                "import fcntl, os, signal\n"
                "os.makedirs('/var/lib/dpkg', exist_ok=True)\n"
                "held = [open('/var/lib/dpkg/' + name, 'w') for name in ('lock-frontend', 'lock')]\n"
                "for lock in held:\n"
                "    fcntl.lockf(lock, fcntl.LOCK_EX)\n"
                "open('/run/dpkg-locked', 'w').close()\n"
                "signal.pause()\n",
            ),
        ),
        late="/usr/lib/fleet-lab/lock-dpkg & " + until("[ -e /run/dpkg-locked ]"),
    ),
)
