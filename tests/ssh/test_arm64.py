"""A host with another processor: Debian's own arm64 Python, run by qemu, behind a real sshd; the wheel is the real one.

What apt and pip bring lies in the test's folder, and nothing is installed: apt has lists of its own, and the kernel is
told of qemu in a user namespace that ends with the sshd (Linux 6.7 or newer). nginx is this machine's, so that its
processes look as they do everywhere; everything that fleet runs there is arm64.
"""

import hashlib
import os
import shutil
import signal
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fleet.host import Host
from fleet.lab.releases.build import make_release
from fleet.onhost.protocol import MAY_DO, Ask, Goal, Layout, Options, Outcome, Phase, Probe, Report, Rest
from fleet.ssh.delivery.bundle import GENERIC, PACKAGE, BundleStore, build
from fleet.ssh.delivery.psutil_wheels import WheelCache
from fleet.ssh.visit import visit
from fleet.task import Deadlines
from tests.support.private_nginx import PrivateNginx, wait_until
from tests.support.ssh.server import sshd
from tests.support.ssh.stubs import Heard, a_task

pytestmark = pytest.mark.long

EM_AARCH64 = 183
MACHINE_OFFSET = 18  # e_machine (elf.h)
PATIENT = Deadlines(connect_s=60, banner_s=60, auth_s=60, channel_s=60, silence_s=120, transfer_idle_s=60)

# As unshare maps a range only with Debian's uidmap, the maps are written from outside, by a child that stays there.
WITH_ALL_USERS = """
outside=$(readlink /proc/$$/ns/user)
(
    until [ "$(readlink /proc/$$/ns/user)" != "$outside" ]; do :; done
    echo 0 0 4294967295 > /proc/$$/gid_map && echo 0 0 4294967295 > /proc/$$/uid_map || kill $$
) &
exec unshare --user --mount /bin/sh -c 'until [ "$(id -u)" = 0 ]; do :; done; exec "$@"' sh "$@"
"""
# By the first bytes of an executable: 64 bit, little-endian, EXEC or DYN, AArch64 (binfmt_misc.rst in the kernel).
WITH_QEMU = r"""
mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
printf %s ":arm64:M::$magic:$mask:$1:FP" > /proc/sys/fs/binfmt_misc/register
"$2" -p "$3/" -c conf/nginx.conf
shift 3
exec "$@"
"""


def from_debian(folder: Path, architecture: str, package: str) -> Path:
    """The package and all that it needs, of that architecture, unpacked in the folder; this machine stays as it is."""
    root, state = folder / "root", folder / "apt"
    for path in (root, state / "lists/partial", state / "archives/partial"):
        path.mkdir(parents=True)
    (state / "status").touch()
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
        "Dir::State": state,
        "Dir::State::status": state / "status",
        "Dir::Cache": state,
    }
    apt = ["apt-get", "-q", "-y", *(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))]
    for words in (["update"], ["install", "--download-only", package]):
        ran = subprocess.run([*apt, *words], capture_output=True, text=True, timeout=600, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    for path in sorted((state / "archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", path, root], check=True)
        path.unlink()
    return root


@dataclass(frozen=True, slots=True)
class Foreign:
    """An arm64 host with an nginx."""

    host: Host
    nginx: PrivateNginx
    shelf: BundleStore

    def visit(self, ask: Ask, release: Path | None = None, lease_s: float = 0.0) -> Report:
        """What the host says after a visit that did all that it should."""
        task = a_task(self.host, ask, deadlines=PATIENT, release=release)
        options = Options(
            settle_s=0.3, probes=(Probe(f"http://{self.nginx.target}/health", timeout_s=30),), allow=("pending-config",)
        )
        request = task.request._replace(
            goal=Goal(hashlib.sha256(release.read_bytes()).hexdigest(), Rest.HELD) if release is not None else None,
            allowed=MAY_DO[ask],
            options=options,
            release_bytes=release.stat().st_size if release is not None else None,
            take_over=ask is Ask.ROLLBACK,
            lease_s=lease_s,
        )
        outcome = visit(replace(task, request=request), Heard(), self.shelf)
        assert outcome.outcome is Outcome.DONE, outcome
        assert outcome.report is not None
        return outcome.report


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[Foreign]:
    native = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout
    qemu = from_debian(tmp_path / "qemu", native.strip(), "qemu-user-static") / "usr/bin/qemu-aarch64-static"
    root = from_debian(tmp_path / "arm64", "arm64", "python3")
    nginx = PrivateNginx(tmp_path / "nginx")
    shelf = BundleStore({GENERIC: build(GENERIC, PACKAGE)}, WheelCache(tmp_path / "wheels"))
    within = ("/bin/sh", "-ec", WITH_ALL_USERS, "sh", "/bin/sh", "-ec", WITH_QEMU, "sh")
    mine = (str(qemu), str(nginx.binary), str(nginx.folder))
    (tmp_path / "sshd").mkdir()
    try:
        with sshd(tmp_path / "sshd", f"SetEnv QEMU_LD_PREFIX={root}", within=(*within, *mine)) as running:
            layout = Layout(pid_file=str(nginx.pid_file), state_dir=str(tmp_path / "state"))
            python = str(root / "usr/bin/python3")
            yield Foreign(replace(running.host, python=python, layout=layout), nginx, shelf)
    finally:
        for process in watchers(tmp_path / "state"):
            os.kill(int(process.name), signal.SIGKILL)
        nginx.end()
        for name in ("qemu", "arm64"):  # half a gigabyte
            shutil.rmtree(tmp_path / name)


def test_an_arm64_host_gets_its_wheel_and_is_upgraded_and_rolled_back(foreign: Foreign, tmp_path: Path) -> None:
    release = make_release("new", tmp_path / "release")
    master = foreign.nginx.master()

    seen = foreign.visit(Ask.LOOK)
    foreign.visit(Ask.STAGE, release)
    trial = foreign.visit(Ask.UPGRADE, release, lease_s=600)
    (watcher,) = watchers(tmp_path / "state")
    runs, loaded = (watcher / "exe").readlink(), (watcher / "maps").read_text()
    back = foreign.visit(Ask.ROLLBACK)

    assert (seen.phase, trial.phase, back.phase) == (Phase.OLD, Phase.TRIAL, Phase.OLD)
    assert [one.pid for one in seen.masters] == [one.pid for one in back.masters] == [master]
    assert len(trial.masters) == 2
    assert set(foreign.shelf) == {GENERIC, "aarch64-glibc"}
    # What fleet left there for the lease shows what its visits ran on.
    (extension,) = tmp_path.glob("state/bundles/*/lib/psutil-wheel/psutil/*.so")
    assert struct.unpack_from("<H", extension.read_bytes(), MACHINE_OFFSET) == (EM_AARCH64,)
    assert runs.name.startswith("qemu-aarch64")
    assert {word for word in loaded.split() if "psutil" in word} == {str(extension)}
    wait_until(lambda: not watchers(tmp_path / "state"), "an end of the lease's watcher")


def watchers(state_dir: Path) -> list[Path]:
    """The processes that watch a lease there, as folders of /proc."""
    named = [file.read_text().split()[0] for file in state_dir.glob("instances/*/watcher.lock")]
    return [path for path in (Path("/proc", pid) for pid in named) if runs(path)]


def runs(process: Path) -> bool:
    """Whether it is there, and no zombie."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
