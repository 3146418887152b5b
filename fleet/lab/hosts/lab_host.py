"""One pretend host: switch it on and off, run something on it, spoil its line.

A `LabHost` remembers no process: which PID 1 the host has now is read from the lab's folder each time, so that a host
booted from another terminal is the same host here.
"""

import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from importlib.resources import as_file, files
from ipaddress import IPv4Network
from os import getpid, killpg
from pathlib import Path
from signal import SIGKILL

from fleet.errors import FleetError, Refused
from fleet.lab import network
from fleet.lab.folder import HostEntry, LabPaths, Owner
from fleet.lab.hosts import disk
from fleet.lab.processes import alive, end, environment, started, wait_until

BOOT_S = 60.0


class Power(Enum):
    """What can be said of a host from outside."""

    ON = "on"
    CUT = "cut"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class LabHost:
    """A host of a lab. `show` are folders of the machine that it sees, read-only."""

    paths: LabPaths
    entry: HostEntry
    subnet: str
    show: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def address(self) -> str:
        return self.entry.address

    @property
    def kind(self) -> str | None:
        return self.entry.kind

    @property
    def disk(self) -> Path:
        """The upper folder of the host's root: what differs from the template."""
        return self.paths.disks / self.name / "upper"

    @property
    def power(self) -> Power:
        """Whether the host runs, and whether anybody could hear it."""
        if self.first_process() is None:
            return Power.OFF
        return Power.CUT if network.is_cut(self.paths, self.entry) else Power.ON

    def first_process(self) -> Owner | None:
        """The host's PID 1 as the machine sees it, or `None` when the host is off."""
        try:
            pid, start = self.paths.pid_file(self.name).read_text().split()
        except (OSError, ValueError):
            return None
        found = Owner(int(pid), int(start))
        return found if alive(found) else None

    def pid(self) -> int:
        """The pid, on the machine, of the host's PID 1. Raises `Refused` when the host is off."""
        found = self.first_process()
        if found is None:
            raise Refused(
                f"{self.name}: the host is off.", f"Boot it: fleet lab boot {self.name} --name {self.paths.name}"
            )
        return found.pid

    def enter(self, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` in all namespaces of this host, with a root's ordinary environment."""
        variables = [f"{name}={value}" for name, value in environment().items()]
        namespaces = ["nsenter", "-t", str(self.pid()), "-m", "-u", "-i", "-n", "-p"]
        return [*namespaces, "--", "/usr/bin/env", "-i", *variables, *argv]

    def exec(
        self, argv: Sequence[str], input: bytes = b"", timeout_s: float = 30.0
    ) -> subprocess.CompletedProcess[bytes]:
        """What `argv` did on this host, whatever its exit code. Raises `subprocess.TimeoutExpired`, `argv` being gone."""
        started_argv = self.enter(argv)
        with subprocess.Popen(
            started_argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            try:
                output, errors = process.communicate(input, timeout=timeout_s)
            except BaseException:
                # The group, since nsenter's child would go on without it.
                with suppress(ProcessLookupError):
                    killpg(process.pid, SIGKILL)
                raise
        return subprocess.CompletedProcess(list(argv), process.returncode, output, errors)

    def sh(self, script: str, timeout_s: float = 30.0) -> str:
        """What a line of shell printed on this host. Raises `FleetError` when it fails."""
        done = self.exec(["/bin/sh", "-euc", script], timeout_s=timeout_s)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
            raise FleetError(f"{self.name}: {script.strip()!r}: exit {done.returncode}: {said}")
        return done.stdout.decode("utf-8", "replace")

    def cut(self, port: int | None = None) -> None:
        """The host's line is dead, or for this TCP port only: nothing goes through, and no end is told (no FIN, no RST)."""
        self.pid()
        if port is None:
            network.set_carrier(self.paths, self.entry, up=False)
        else:
            network.cut_port(self.paths, self.entry, port)

    def heal(self) -> None:
        """The host's line is as it was."""
        self.pid()
        network.heal_ports(self.paths, self.entry)
        network.set_carrier(self.paths, self.entry, up=True)

    def slow(self, rate: str | None = None, loss_percent: float = 0.0) -> None:
        """The line has this rate and loses this share of its packets, each way; with neither it is as it was."""
        network.slow_down(self.paths, self.entry, self.pid(), rate=rate, loss_percent=loss_percent)

    def kill(self) -> None:
        """The host is off as if its plug were pulled. Its disk stays."""
        found = self.first_process()
        if found is not None:
            end([found])
        link = self.paths.link(self.entry.number)
        if link in network.links(self.paths):
            network.remove(link)
        self.paths.pid_file(self.name).unlink(missing_ok=True)

    def boot(self) -> None:
        """The host is on, from its disk, with what its /etc/rc starts. Raises `Refused` when it is on already."""
        if self.first_process() is not None:
            raise Refused(
                f"{self.name}: the host is on.",
                f"Switch it off first: fleet lab kill {self.name} --name {self.paths.name}",
            )
        self.kill()
        self.power_on()
        plug_in([self])
        self.wait_ready()

    def power_on(self) -> None:
        """PID 1 of the host runs. Its cable isn't in the bridge yet, its services may not be up yet."""
        cable = network.cable(self.paths, self.entry, IPv4Network(self.subnet), getpid())
        folder = self.paths.disks / self.name
        with as_file(files("fleet.lab.hosts").joinpath("boot.sh")) as script, tempfile.TemporaryFile() as errors:
            argv = ["unshare", "--mount", "--uts", "--ipc", "--net", "--", "/bin/sh", str(script)]
            done = subprocess.run(
                [*argv, str(folder), str(self.paths.template), self.name, disk.INIT, *self.show],
                input=cable.encode(),
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                env=environment(),
                timeout=BOOT_S,
            )
            errors.seek(0)
            said = errors.read().decode("utf-8", "replace").strip()
        if done.returncode != 0:
            raise FleetError(f"{self.name}: does not boot: {said or f'exit {done.returncode}'}.")
        pid = int(done.stdout)
        start = started(pid)
        if start is None:
            raise FleetError(f"{self.name}: its first process ended. {self.boot_log()}")
        pid_file = self.paths.pid_file(self.name)
        pid_file.parent.mkdir(exist_ok=True)
        pid_file.write_text(f"{pid} {start}\n")

    def wait_ready(self) -> None:
        """Its /etc/rc has run through and its sshd listens. Raises `FleetError` with the host's boot log."""
        first = self.first_process()
        ready = Path(f"/proc/{first.pid if first else 0}/root/run/ready")

        def is_decided() -> bool:
            return self.first_process() is None or (ready.exists() and self.listens(22))

        decided = wait_until(is_decided, within_s=BOOT_S)
        self.check_alive()
        if not decided:
            raise FleetError(f"{self.name}: not ready after {BOOT_S:.0f} s. {self.boot_log()}")

    def check_alive(self) -> None:
        """Raises `FleetError`, with the host's boot log, when its first process has ended."""
        if self.first_process() is None:
            raise FleetError(f"{self.name}: its first process ended. {self.boot_log()}")

    def listens(self, port: int) -> bool:
        """Whether something on the host listens on this TCP port."""
        try:
            table = Path(f"/proc/{self.pid()}/net/tcp").read_text().splitlines()[1:]
        except OSError:
            return False
        sockets = [line.split() for line in table]
        return any(fields[3] == "0A" and fields[1].endswith(f":{port:04X}") for fields in sockets)

    def boot_log(self) -> str:
        """What the host's first processes had to say."""
        try:
            return (self.disk / "var/log/boot.log").read_text(errors="replace").strip()
        except OSError:
            return ""


def plug_in(hosts: Sequence[LabHost]) -> None:
    """The cables of these hosts, all of one lab, are in its bridge."""
    try:
        network.plug_in(hosts[0].paths, [host.entry for host in hosts])
    except FleetError:
        # A host that has died took its cable along; that it died says more.
        for host in hosts:
            host.check_alive()
        raise
