"""The disks of the lab: a template over this machine's root, and one disk per host on top of it.

A host's root is an overlay of three layers: this machine's `/`; the template, which shows only the machine's programs
(`/usr` without `/usr/local`) and has its own small `/etc`, `/root`, `/home` and `/var`; and the host's disk, which
survives a power cut. Template and disks lie on one tmpfs, because the kernel refuses an upper folder inside its own lower
one. nginx is on the host's own disk from the start: a hard link to a file of a lower layer would become a copy with
another inode, which no real host shows.
"""

import hashlib
import os
import shutil
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from fleet.errors import Refused
from fleet.lab.folder import HostEntry, LabPaths
from fleet.lab.hosts import nginx, sshd
from fleet.lab.processes import PATH, run

SHOWN = {"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"}
OWN = ("dev", "etc", "home", "media", "mnt", "opt", "proc", "root", "run", "srv", "sys", "tmp", "usr/local", "var")
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
COPIED = ("etc/ld.so.cache", "etc/ld.so.conf", "etc/ssl/openssl.cnf", "etc/debian_version", "etc/localtime")
"""Files of this machine's /etc that programs need and that hold no secret."""
INIT = "/usr/lib/fleet-lab/init"
HOLD = "/usr/lib/fleet-lab/hold"
DEPLOY = "deploy"

PASSWD = f"""\
root:x:0:0:root:/root:/bin/sh
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
sshd:x:100:65534::/run/sshd:/usr/sbin/nologin
{DEPLOY}:x:1000:1000::/home/{DEPLOY}:/bin/sh
"""
GROUP = f"root:x:0:\nadm:x:4:\nshadow:x:42:\ntty:x:5:\nwww-data:x:33:\n{DEPLOY}:x:1000:\nnogroup:x:65534:\n"
SHADOW = f"root:*:19000:0:99999:7:::\n{DEPLOY}:*:19000:0:99999:7:::\n"
NSSWITCH = "passwd: files\ngroup: files\nshadow: files\nhosts: files\n"


def make_template(paths: LabPaths, public_key: str) -> None:
    """Make the layer that all hosts of the lab share."""
    base = paths.template
    for name in OWN:
        _opaque(base / name)
    (base / ".machine").mkdir()
    for entry in os.listdir("/"):
        if entry not in SHOWN and not (base / entry).exists():
            os.mknod(base / entry, 0o20000, 0)  # a whiteout: overlayfs shows nothing under this name
    for name in ("root/.ssh", f"home/{DEPLOY}/.ssh"):
        _put(base / name / "authorized_keys", public_key + "\n", 0o600)
        (base / name).chmod(0o700)
    (base / "root").chmod(0o700)
    run(["chown", "-R", "1000:1000", str(base / "home" / DEPLOY)])
    for name in ("tmp", "var/tmp"):
        (base / name).mkdir(exist_ok=True)
        (base / name).chmod(0o1777)
    for name in ("var/lib/nginx", "var/log/nginx", "var/cache", "var/www", "dev/pts", "dev/shm", "usr/local/bin"):
        (base / name).mkdir(parents=True, exist_ok=True)
    for name, target in (("var/run", "/run"), ("var/lock", "/run/lock")):
        (base / name).symlink_to(target)
    _put_devices(base)
    _put_etc(base)
    _put(base / INIT[1:], files("fleet.lab.hosts").joinpath("init.sh").read_text(), 0o755)
    _put(base / HOLD[1:], files("fleet.lab.hosts").joinpath("slow_download.py").read_text(), 0o755)
    big = base / nginx.PREFIX[1:] / "html/big.bin"
    big.parent.mkdir(parents=True)
    big.write_bytes(nginx.big_file())


def make_disk(paths: LabPaths, host: HostEntry, layout: nginx.Layout) -> tuple[Path, str]:
    """Make the disk of a host, with nginx's binary and a key for sshd. Returns its folder and the public key."""
    disk = paths.disks / host.name
    for name in ("upper", "work", "root"):
        (disk / name).mkdir(parents=True)
    root = disk / "upper"
    key = sshd.make_key(root / sshd.HOST_KEY, host.name)
    write(root, "/etc/hostname", host.name + "\n")
    write(root, "/etc/hosts", f"127.0.0.1 localhost\n{host.address} {host.name}\n")
    write(root, "/etc/machine-id", hashlib.sha256(f"{paths.folder}/{host.name}".encode()).hexdigest()[:32] + "\n")
    for name in (layout.error_log, layout.program):
        (root / name[1:]).parent.mkdir(parents=True)
    program = root / layout.program[1:]
    shutil.copyfile(nginx.BINARY, program)
    program.chmod(0o755)
    return disk, key


def write(root: Path, path: str, text: str, mode: int = 0o644) -> None:
    """Write the file `path` of the host whose disk has its upper folder at `root`."""
    _put(root / path.lstrip("/"), text, mode)


def hide(root: Path, path: str) -> None:
    """Hide `path` from the host, whatever the lower layers have there."""
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    os.mknod(target, 0o20000, 0)


def rc(services: Mapping[str, str]) -> str:
    """An /etc/rc that starts these services in order. A service that fails adds a line to /var/log/boot.log.

    Each runs in a subshell, except nginx: a master in the background must be a child of PID 1 itself.
    """
    parts = []
    for name, command in services.items():
        group = f"{{ {command}\n}}" if name == "nginx" else f"( {command}\n)"
        if command:
            parts.append(f"# {name}\n{group} || echo '{name}: exit' $?")
    return "\n".join(parts) + "\n"


def check_root() -> None:
    """Check that an overlay of `/` shows this machine's programs. Raises `Refused` if not."""
    if os.stat("/usr").st_dev != os.stat("/").st_dev:
        raise Refused(
            "The lab can't use this machine: /usr is a separate file system, which an overlay of / does not show.",
            "Run the lab on a machine (or in a container) with /usr on the root file system.",
        )


def _opaque(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    os.setxattr(folder, "trusted.overlay.opaque", b"y")


def _put(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _put_devices(base: Path) -> None:
    for name, (major, minor) in DEVICES.items():
        node = base / "dev" / name
        os.mknod(node, 0o20000, os.makedev(major, minor))
        node.chmod(0o666)
    links = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"}
    for name, target in links.items():
        (base / "dev" / name).symlink_to(target)


def _put_etc(base: Path) -> None:
    etc = base / "etc"
    for name in COPIED:
        if Path("/", name).is_file():
            (base / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path("/", name), base / name)
    if Path("/etc/alternatives").is_dir():
        shutil.copytree("/etc/alternatives", etc / "alternatives", symlinks=True)
    (etc / "os-release").symlink_to("../usr/lib/os-release")
    (etc / "mtab").symlink_to("../proc/self/mounts")
    texts = {"passwd": PASSWD, "group": GROUP, "nsswitch.conf": NSSWITCH, "profile": f"export PATH={PATH}\n"}
    for name, text in {**texts, "resolv.conf": "", "fstab": "", "environment": ""}.items():
        _put(etc / name, text, 0o644)
    _put(etc / "shadow", SHADOW, 0o640)
