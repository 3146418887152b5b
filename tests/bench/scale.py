"""fleet with hundreds and thousands of hosts: its CPU, memory, threads and descriptors, and how they grow.

The hosts are pretend ones behind a real SSH server (`tests/bench/scale_server.py`), which runs in an environment of its own.
Only the controller is measured: CPU is that of the process and its children, memory is the peak resident set.

    python -m tests.bench.scale [HOSTS...]      # 100 1000 if none is given; 5000 takes many minutes
"""

import os
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from fleet.lab.releases.build import make_release
from tests.support.places import ROOT
from tests.support.pretend.login import address

ASYNCSSH = "asyncssh==2.24.1"
PSUTIL = "psutil==7.2.2"
PLAIN = ("--batches", "100%", "--bake", "0s", "--settle", "0s", "--rehearse", "off")
BAKED = ("--batches", "1,10%,50%,100%", "--bake", "3s", "--settle", "0s", "--rehearse", "off")
RUNS: dict[str, tuple[str, ...]] = {
    "status (the first time: with the bundle)": ("status",),
    "status": ("status",),
    "upgrade, one batch": ("upgrade", "RELEASE", "-y", *PLAIN, "--commit", "never"),
    "rollback": ("rollback", "-y"),
    "upgrade, four batches, commit": ("upgrade", "RELEASE", "-y", *BAKED),
}
"""What is run, in this order, on the same hosts."""
SAMPLE_S = 0.05


@dataclass(frozen=True, slots=True)
class Cost:
    """What one command took of the controller. `cpu_s` is of its children, too; `peak_kb` of the process alone."""

    hosts: int
    what: str
    exit_code: int
    cpu_s: float
    wall_s: float
    peak_kb: int
    threads: int
    descriptors: int
    logins: int

    @property
    def row(self) -> str:
        """Of the Markdown table."""
        each_ms = 1000 * self.cpu_s / self.hosts
        return (
            f"| {self.hosts} | {self.what} | {self.exit_code} | {self.cpu_s:.1f} s | {each_ms:.1f} ms | {self.wall_s:.0f} s "
            f"| {self.peak_kb / 1024:.0f} MB | {self.threads} | {self.descriptors} | {self.logins / self.hosts:.1f} |"
        )


HEAD = """| hosts | command | exit | CPU | CPU a host | wall | peak memory | threads | descriptors | logins a host |
|---|---|---|---|---|---|---|---|---|---|"""


@contextmanager
def pretend_hosts(folder: Path, python: Path, count: int, takes_s: float = 0.0) -> Iterator[Path]:
    """So many hosts, served until the end; gives their inventory."""
    for name in ("host_ed25519", "id"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    (folder / "authorized_keys").write_bytes((folder / "id.pub").read_bytes())
    server = subprocess.Popen(
        [python, "-m", "tests.bench.scale_server", folder, str(count), str(takes_s)], cwd=ROOT, env=dict(os.environ)
    )
    try:
        while not (folder / "port").exists():
            if server.poll() is not None:
                raise RuntimeError(f"the server ended with {server.returncode}")
            time.sleep(SAMPLE_S)
        yield _inventory(folder, count, int((folder / "port").read_text()))
    finally:
        server.kill()
        server.wait()


def _inventory(folder: Path, count: int, port: int) -> Path:
    kind, key, *_ = (folder / "host_ed25519.pub").read_text().split()
    places = [address(number) for number in range(count)]
    (folder / "known_hosts").write_text("".join(f"[{place}]:{port} {kind} {key}\n" for place in places))
    lines = [
        "all:",
        "  vars:",
        "    ansible_user: root",
        f"    ansible_port: {port}",
        f"    ansible_ssh_private_key_file: {folder / 'id'}",
        f"    fleet_known_hosts: {folder / 'known_hosts'}",
        "    fleet_ssh_config: none",
        "  hosts:",
        *(f"    web-{number:04}: {{ansible_host: {place}}}" for number, place in enumerate(places)),
    ]
    found = folder / "inventory.yaml"
    found.write_text("\n".join(lines) + "\n")
    return found


def measured(folder: Path, hosts: int, what: str, words: tuple[str, ...]) -> Cost:
    """Runs fleet with these words, and measures it."""
    home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
    logins = logins_at(folder)
    began_at = time.monotonic()
    with (folder / "out").open("ab") as out:
        running = subprocess.Popen(
            [Path(sys.executable).with_name("fleet"), *words],
            cwd=ROOT,
            env={**os.environ, **home},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
        watched = Watched(running.pid)
        _, status, used = os.wait4(running.pid, 0)
        watched.stop()
    running.returncode = os.waitstatus_to_exitcode(status)
    return Cost(
        hosts,
        what,
        running.returncode,
        used.ru_utime + used.ru_stime,
        time.monotonic() - began_at,
        watched.peak_kb,
        watched.threads,
        watched.descriptors,
        logins_at(folder) - logins,
    )


def logins_at(folder: Path) -> int:
    """How many logins there have been."""
    try:
        return int((folder / "logins").read_text() or 0)
    except FileNotFoundError:
        return 0


class Watched:
    """The most memory, threads and descriptors that a process has had, read from /proc until `stop`."""

    def __init__(self, pid: int) -> None:
        self.peak_kb = self.threads = self.descriptors = 0
        self._place = Path(f"/proc/{pid}")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_S):
            try:
                lines = (self._place / "status").read_text().splitlines()
                said = dict(line.split(":", 1) for line in lines)
                self.descriptors = max(self.descriptors, len(os.listdir(self._place / "fd")))
            except OSError:  # it has ended
                return
            if "VmHWM" in said:  # it is no zombie
                self.peak_kb = max(self.peak_kb, int(said["VmHWM"].split()[0]))
                self.threads = max(self.threads, int(said["Threads"]))


def environment() -> Path:
    """The Python of an environment that has what the server needs; it is made at the first use."""
    python = ROOT / ".venv-scale" / "bin" / "python"
    if not python.exists():
        venv.create(python.parents[1], with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", ASYNCSSH, PSUTIL], check=True)
    return python


def main(counts: list[int]) -> None:
    """Prints the table."""
    with TemporaryDirectory(prefix="fleet-scale-") as name:
        place = Path(name)
        python = environment()
        release = make_release("new", place / "nginx")
        print(HEAD, flush=True)
        for count in counts:
            folder = place / str(count)
            folder.mkdir()
            with pretend_hosts(folder, python, count) as inventory:
                for what, words in RUNS.items():
                    command = tuple(str(release) if word == "RELEASE" else word for word in words)
                    cost = measured(folder, count, what, (*command, "-i", str(inventory)))
                    print(cost.row, flush=True)
                    if cost.exit_code:
                        print((folder / "out").read_text()[-900:])


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [100, 1000])
