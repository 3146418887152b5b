"""A real sshd whose login is not root, with the machine's real sudo and doas, and its own /etc and accounts.

sshd runs in a mount namespace, where a copy of /etc lies over the machine's: the machine's own accounts and rules are
never changed, and a test that dies leaves nothing but files in a temporary folder.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from tests.support.ssh.server import Sshd, sshd

USER = "deploy"
UID = 61_234
# What a shell, a locale or a careless format string would trip over.
PASSWORD = "p\"a$s's`id` \\é%"
HASH = "$6$fleettest$UBPxN6Hm0GWc8DWIed7OVC77J.NlARq2vXmpcXqyXSTJcxhaQChUKyJ4my6L82QEcD.wgTvHmpgKBojcDcy1l0"
SUDOERS = "root ALL=(ALL) ALL\n@includedir /etc/sudoers.d\n"
# What Debian and RHEL do for sudo, with each failed login counted as hardened hosts count it.
PAM = """\
auth required pam_faillock.so preauth nodelay dir={tally} deny=50
auth sufficient pam_unix.so nodelay
auth [default=die] pam_faillock.so authfail nodelay dir={tally} deny=50
account required pam_unix.so
session required pam_permit.so
"""
OWN_ETC = """\
mount --bind {etc} /etc && mount -t tmpfs none /run/sudo && mount -t tmpfs none /var/lib/sudo && {first} && exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Ordinary:
    """A host whose login must become root first."""

    sshd: Sshd
    folder: Path

    @property
    def etc(self) -> Path:
        """The host's own /etc."""
        return self.folder / "etc"

    def allow(self, *lines: str) -> None:
        """Sets sudo's rules, beyond the machine's defaults."""
        (self.etc / "sudoers.d" / "test").write_text("".join(f"{line}\n" for line in lines))

    def do(self, *lines: str) -> None:
        """Sets doas' rules."""
        (self.etc / "doas.conf").write_text("".join(f"{line}\n" for line in lines))
        (self.etc / "doas.conf").chmod(0o400)

    def forbid(self) -> None:
        """Removes all rules of doas."""
        (self.etc / "doas.conf").unlink(missing_ok=True)

    def new_folder(self) -> Path:
        """A folder on the host that is root's alone."""
        return Path(mkdtemp(dir=self.folder))

    def ssh(self) -> list[str]:
        """The ssh command for that host with the same key."""
        options = ["-F", "none", "-o", f"UserKnownHostsFile={self.sshd.known_hosts}", "-o", "BatchMode=yes"]
        return ["ssh", *options, "-i", self.sshd.host.key_files[0], "-p", str(self.sshd.port), f"{USER}@127.0.0.1"]

    @property
    def failed_logins(self) -> int:
        """How many failed logins of the user pam_faillock has counted."""
        shown = subprocess.run(
            ["faillock", "--dir", self.folder / "tally", "--user", USER], capture_output=True, text=True, check=True
        )
        return sum(line.endswith("V") for line in shown.stdout.splitlines())

    def forget_failures(self) -> None:
        shutil.rmtree(self.folder / "tally")
        (self.folder / "tally").mkdir()


@contextmanager
def ordinary(*settings: str, first: str = ":") -> Iterator[Ordinary]:
    """A host with an ordinary login and no sudo or doas rule, until the block ends. `first`: shell that runs on the host
    before its sshd."""
    with TemporaryDirectory(prefix="fleet-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "tally").mkdir()
        _make_etc(folder)
        wrap = ("unshare", "--mount", "sh", "-c", OWN_ETC.format(etc=folder / "etc", first=first), "sh")
        with sshd(folder, *settings, within=wrap) as running:
            yield Ordinary(replace(running, host=replace(running.host, user=USER, become=True)), folder)


def _make_etc(folder: Path) -> None:
    etc = folder / "etc"
    shutil.copytree("/etc", etc, symlinks=True, ignore=shutil.ignore_patterns("alternatives", "ssl", "fonts"))
    home = folder / "home"
    home.mkdir()
    shutil.chown(home, UID, UID)
    with (etc / "passwd").open("a") as sink:
        sink.write(f"{USER}:x:{UID}:{UID}:an ordinary login:{home}:/bin/sh\n")
    with (etc / "shadow").open("a") as sink:
        sink.write(f"{USER}:{HASH}:19000:0:99999:7:::\n")
    with (etc / "group").open("a") as sink:
        sink.write(f"{USER}:x:{UID}:\n")
    shutil.rmtree(etc / "sudoers.d", ignore_errors=True)
    (etc / "sudoers.d").mkdir(mode=0o750)
    (etc / "sudoers").write_text(SUDOERS)
    for program in ("sudo", "doas"):
        (etc / "pam.d" / program).write_text(PAM.format(tally=folder / "tally"))
