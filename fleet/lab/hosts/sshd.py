"""SSH in the lab: the configuration and key of each host's sshd, and the files that clients on this machine need."""

import os
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from fleet.lab.folder import HostEntry, LabPaths
from fleet.lab.processes import run

HOST_KEY = "etc/ssh/ssh_host_ed25519_key"
START = "/usr/sbin/sshd -E /var/log/sshd.log"
SFTP = "Subsystem sftp internal-sftp\n"


def config(*, with_pam: bool = False) -> str:
    """An `sshd_config`: login by key only, and no limit that many logins at once would reach."""
    text = f"""\
Port 22
AddressFamily inet
HostKey /{HOST_KEY}
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM {"yes" if with_pam else "no"}
UseDNS no
PrintMotd no
MaxStartups 1000
MaxSessions 100
LoginGraceTime 30
{SFTP}"""
    # Since 9.8 sshd locks out an address after many failures; here every client has the same address.
    return text + ("PerSourcePenalties no\n" if _version() >= (9, 8) else "")


def _version() -> tuple[int, int]:
    version = subprocess.run(["ssh", "-V"], capture_output=True, text=True).stderr
    found = re.search(r"OpenSSH_(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def make_key(path: Path, comment: str) -> str:
    """Make an ed25519 key at `path`; returns the public key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])
    return path.with_name(path.name + ".pub").read_text().strip()


def write_client_files(
    paths: LabPaths, keys: Mapping[str, str], hosts: Iterable[HostEntry], users: Mapping[str, str]
) -> None:
    """Write `known_hosts` and `ssh_config` of the lab. `keys` and `users` are by host name."""
    entries = tuple(hosts)
    known = "".join(f"{host.name},{host.address} {' '.join(keys[host.name].split()[:2])}\n" for host in entries)
    paths.known_hosts.write_text(known)
    common = f"""\
Host *
    IdentityFile {paths.private_key}
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile {paths.known_hosts}
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    PasswordAuthentication no
    LogLevel ERROR
"""
    own = "".join(f"Host {host.name}\n    HostName {host.address}\n    User {users[host.name]}\n" for host in entries)
    paths.ssh_config.write_text(own + common)


def hand_over(paths: LabPaths) -> None:
    """Give the lab's files to the user who ran sudo, so that ssh and fleet work without it."""
    owner = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if not (owner[0].isdigit() and owner[1].isdigit()):
        return
    for path in (paths.private_key, paths.known_hosts, paths.ssh_config, paths.inventory):
        if path.exists():
            os.chown(path, int(owner[0]), int(owner[1]))
