"""The layer of the hosts whose PID 1 is systemd: what they have over the template of all hosts.

systemd, dbus and the PAM module of logind are this machine's own programs; the units and all of /etc are the lab's, so
that no setting of this machine comes in. What is masked would reach for the machine's hardware, kernel or clock, or
waits for a terminal.
"""

import ctypes
import os
from importlib.resources import files
from pathlib import Path

from fleet.errors import Refused
from fleet.lab.folder import Init, LabPaths
from fleet.lab.hosts import cgroup, disk

REQUIRED = (
    "systemctl:systemd",
    "/lib/systemd/systemd:systemd",
    "dbus-daemon:dbus",
    "/lib/*/security/pam_systemd.so:libpam-systemd",
    "setpriv:util-linux",
    "start-stop-daemon:dpkg",
)
"""What the hosts run, and Debian's package of each."""
LAYER = "systemd"
INIT = "/usr/lib/fleet-lab/init-systemd"
UNITS = "/lib/systemd/system"
WATCHES = 5
"""The inotify instances of one host: three of systemd, one each of dbus and logind."""
READY = "/run/ready"
"""Appears when every unit of the boot has been started, or has failed."""

PASSWD = disk.PASSWD + "".join(
    f"{name}:/nonexistent:/usr/sbin/nologin\n" for name in ("messagebus:x:101:101:", "_apt:x:42:65534:")
)
GROUP = disk.GROUP + "messagebus:x:101:\nsystemd-journal:x:102:\nutmp:x:43:\n"
SHADOW = disk.SHADOW + "messagebus:*:19000:0:99999:7:::\n_apt:*:19000:0:99999:7:::\n"

PAM: dict[str, str] = {
    "common-auth": "auth required pam_unix.so\n",
    "common-account": "account required pam_unix.so\n",
    "common-password": "password required pam_unix.so\n",
    "common-session": "session required pam_unix.so\nsession optional pam_systemd.so\n",
    "common-session-noninteractive": "session required pam_unix.so\n",
    "sshd": "@include common-auth\naccount required pam_nologin.so\n@include common-account\n"
    "session required pam_loginuid.so\nsession optional pam_keyinit.so force revoke\n@include common-session\n",
    "other": "@include common-auth\n@include common-account\n@include common-password\n@include common-session\n",
}

SSH_UNIT = """\
[Unit]
Description=OpenBSD Secure Shell server
After=network.target

[Service]
ExecStart=/usr/sbin/sshd -D
ExecReload=/bin/kill -HUP $MAINPID
KillMode=process
Restart=on-failure
Type=notify
RuntimeDirectory=sshd
RuntimeDirectoryMode=0755

[Install]
WantedBy=multi-user.target
"""
READY_UNIT = f"""\
[Unit]
Description=The boot of this host has been decided
After=nginx.service ssh.service dbus.service systemd-logind.service

[Service]
Type=oneshot
ExecStart=/bin/sh -c ': >{READY}'
"""

# A manager of its own for each user that logs in would take 10 MB; nothing of nginx's or fleet's runs under it.
USER_UNIT = """\
[Unit]
Description=In place of the user manager for UID %i
After=user-runtime-dir@%i.service
Requires=user-runtime-dir@%i.service

[Service]
Type=oneshot
RemainAfterExit=yes
Slice=user-%i.slice
ExecStart=/bin/true
"""

MASKED = (
    "console-getty.service",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "getty.target",
    "kmod-static-nodes.service",
    "modprobe@.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-journald-audit.socket",
    "systemd-modules-load.service",
    "systemd-networkd.service",
    "systemd-resolved.service",
    "systemd-sysctl.service",
    "systemd-sysusers.service",
    "systemd-timesyncd.service",
    "systemd-udev-settle.service",
    "systemd-udev-trigger.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udevd.service",
)
WANTED = ("nginx", "ssh", "fleet-lab-ready")


def make_layer(paths: LabPaths) -> None:
    """Make the layer that all systemd hosts of the lab share."""
    base = paths.layer(LAYER)
    for name, text in (("passwd", PASSWD), ("group", GROUP)):
        disk.write(base, f"/etc/{name}", text)
    disk.write(base, "/etc/shadow", SHADOW, 0o640)
    for name, text in PAM.items():
        disk.write(base, f"/etc/pam.d/{name}", text)
    for name, text in (("ssh", SSH_UNIT), ("fleet-lab-ready", READY_UNIT), ("user@", USER_UNIT)):
        disk.write(base, f"/usr{UNITS}/{name}.service", text)
    own = base / "etc/systemd/system"
    (own / "multi-user.target.wants").mkdir(parents=True)
    (own / "default.target").symlink_to(f"{UNITS}/multi-user.target")
    for name in WANTED:
        (own / "multi-user.target.wants" / f"{name}.service").symlink_to(f"{UNITS}/{name}.service")
    for name in MASKED:
        (own / name).symlink_to("/dev/null")
    for generator in _generators():
        (base / "etc/systemd/system-generators").mkdir(exist_ok=True)
        (base / "etc/systemd/system-generators" / generator).symlink_to("/dev/null")
    for name in ("var/lib/systemd", "var/lib/dbus"):
        (base / name).mkdir(parents=True)
    disk.write(base, INIT, files("fleet.lab.hosts").joinpath("init_systemd.sh").read_text(), 0o755)


def init(which: Init) -> str:
    """The script that becomes such a host's PID 1, with its arguments."""
    return f"{INIT} unified" if which is Init.SYSTEMD else f"{INIT} hybrid {' '.join(cgroup.HYBRID)}"


def check_watches(count: int) -> None:
    """Check that so many hosts get the inotify instances they need, of which the kernel gives root a number. Raises
    `Refused`.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    opened: list[int] = []
    try:
        for _ in range(count * WATCHES):
            descriptor = libc.inotify_init1(os.O_CLOEXEC)
            if descriptor < 0:
                raise Refused(
                    f"This machine has no inotify instances left for {count} hosts with systemd: they need "
                    f"{count * WATCHES}, and got {len(opened)}: {os.strerror(ctypes.get_errno())}.",
                    f"Raise the limit: sysctl fs.inotify.max_user_instances={1024 + count * WATCHES}",
                )
            opened.append(descriptor)
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _generators() -> tuple[str, ...]:
    """The machine's generators: each would be one more process at every boot, and the hosts need none of them."""
    return tuple(sorted(path.name for path in Path("/lib/systemd/system-generators").glob("*")))
