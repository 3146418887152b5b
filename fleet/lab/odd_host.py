"""Odd hosts where nginx is well and what is round it is not: room, Python, the login, sshd, other programs."""

from fleet.lab.disk import DEPLOY
from fleet.lab.kinds import Kind, Limit, until
from fleet.lab.nginx import PREFIX
from fleet.lab.sshd import SFTP

STATE_DIR = "/var/lib/fleet"


def _mounted(size: str, folder: str) -> str:
    """Shell that gives nginx's folder a small file system of its own, filled at each boot from the disk."""
    kept = f"{PREFIX}.disk"
    return (
        f"[ -d {kept} ] || {{ mkdir {kept} && cp -a {PREFIX}/sbin {PREFIX}/conf {kept}; }}; "
        f"mount -t tmpfs -o {size} tmpfs {folder} && cp -a {kept}/. {folder} && mkdir {folder}/logs"
    )


KINDS = (
    # Room
    Kind(
        "full-disk",
        "the binary's file system is full",
        before=_mounted("size=4m", PREFIX),
        late=f"cat /dev/zero >{PREFIX}/filler 2>/dev/null; true",
    ),
    Kind(
        "no-inodes",
        "the binary's file system has no inode left",
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
        "nothing can be executed from fleet's state folder",
        before=f"mkdir -p {STATE_DIR} && mount -t tmpfs -o noexec,mode=700 tmpfs {STATE_DIR}",
    ),
    Kind("memory-short", "nginx's cgroup has no memory for a second generation", limit=Limit("memory", 2 << 20)),
    Kind("pids-short", "nginx's cgroup has no pids for a second generation", limit=Limit("pids", 1)),
    # The way in, and what is there
    Kind("no-python", "there is no Python", hidden=("/usr/bin/python*", "/usr/libexec/platform-python*")),
    Kind(
        "old-python",
        "Python says that it is 3.5 (it isn't: a sitecustomize says so)",
        files=(
            (
                "/usr/lib/python3/dist-packages/sitecustomize.py",
                "import collections, sys\n"
                "fields = 'major minor micro releaselevel serial'\n"
                "sys.version_info = collections.namedtuple('version_info', fields)(3, 5, 3, 'final', 0)\n"
                "sys.version = '3.5.3 (default)'\n"
                "sys.hexversion = 0x030503F0\n",
            ),
        ),
    ),
    Kind("non-root-user", f"the login is {DEPLOY}, who may not become root", user=DEPLOY),
    Kind(
        "sudo-user",
        f"the login is {DEPLOY}, who becomes root by sudo without a password",
        files=(
            ("/etc/sudoers", f"{DEPLOY} ALL=(ALL:ALL) NOPASSWD: ALL\n"),
            (
                "/etc/pam.d/sudo",
                "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n",
            ),
        ),
        before="chmod 0440 /etc/sudoers",
        user=DEPLOY,
        variables=(("ansible_become", True),),
        needs=("sudo",),
    ),
    Kind("no-sftp", "sshd has no SFTP", edit_sshd=lambda text: text.replace(SFTP, "")),
    Kind(
        "no-sftp-no-scp",
        "sshd has no SFTP, and there is no scp",
        hidden=("/usr/bin/scp",),
        edit_sshd=lambda text: text.replace(SFTP, ""),
    ),
    Kind(
        "dpkg-locked",
        "a package manager is at work: dpkg's lock is held",
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
