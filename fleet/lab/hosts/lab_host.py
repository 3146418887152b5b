"""One pretend host: power it on and off, run commands on it, cut or slow its network.

A `LabHost` holds no process: it reads the host's PID 1 from the lab's folder each time, so that it also knows a host
that was booted from another terminal.
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
from fleet.lab.folder import HostEntry, Init, LabPaths, Owner
from fleet.lab.hosts import cgroup, disk, systemd
from fleet.lab.processes import alive, end, environment, started, wait_until

BOOT_S = 60.0


class Power(Enum):
    """Whether a host runs, and whether the network reaches it."""

    ON = "on"
    CUT = "cut"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class LabHost:
    """A host of a lab. It sees the folders `show` of this machine, read-only."""

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
        """Whether the host runs, and whether its network link is up."""
        if self.first_process() is None:
            return Power.OFF
        return Power.CUT if network.is_cut(self.paths, self.entry) else Power.ON

    def first_process(self) -> Owner | None:
        """The host's PID 1, as a process of this machine; `None` when the host is off."""
        try:
            pid, start = self.paths.pid_file(self.name).read_text().split()
        except (OSError, ValueError):
            return None
        found = Owner(int(pid), int(start))
        return found if alive(found) else None

    def pid(self) -> int:
        """The pid that the host's PID 1 has on this machine. Raises `Refused` when the host is off."""
        found = self.first_process()
        if found is None:
            raise Refused(
                f"{self.name} is powered off.", f"Boot it: fleet lab boot {self.name} --name {self.paths.name}"
            )
        return found.pid

    def enter(self, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` as root in all namespaces of this host, with a usual environment."""
        variables = [f"{name}={value}" for name, value in environment().items()]
        namespaces = ["nsenter", "-t", str(self.pid()), "-m", "-u", "-i", "-n", "-p", "-C"]
        return [*namespaces, "--", "/usr/bin/env", "-i", *variables, *argv]

    def exec(
        self, argv: Sequence[str], input: bytes = b"", timeout_s: float = 30.0
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `argv` on this host. Raises `subprocess.TimeoutExpired`; `argv` has been killed then."""
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
                # The process group, because the child of nsenter would run on without its parent.
                with suppress(ProcessLookupError):
                    killpg(process.pid, SIGKILL)
                raise
        return subprocess.CompletedProcess(list(argv), process.returncode, output, errors)

    def sh(self, script: str, timeout_s: float = 30.0) -> str:
        """Run shell on this host; returns its stdout. Raises `FleetError` when it fails."""
        done = self.exec(["/bin/sh", "-euc", script], timeout_s=timeout_s)
        if done.returncode != 0:
            output = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
            raise FleetError(
                f"A command on {self.name} failed with exit code {done.returncode}: {script.strip()}: {output}"
            )
        return done.stdout.decode("utf-8", "replace")

    def cut(self, port: int | None = None) -> None:
        """Cut the host's network, or this TCP port only. Packets are dropped; neither end gets a FIN or RST."""
        self.pid()
        if port is None:
            network.set_carrier(self.paths, self.entry, up=False)
        else:
            network.cut_port(self.paths, self.entry, port)

    def heal(self) -> None:
        """Undo every `cut`."""
        self.pid()
        network.heal_ports(self.paths, self.entry)
        network.set_carrier(self.paths, self.entry, up=True)

    def slow(self, rate: str | None = None, loss_percent: float = 0.0) -> None:
        """Limit the network to this rate and lose this share of packets, each way; with neither, undo both."""
        network.slow_down(self.paths, self.entry, self.pid(), rate=rate, loss_percent=loss_percent)

    def kill(self) -> None:
        """Power the host off at once. Its disk stays as it is."""
        found = self.first_process()
        if found is not None:
            end([found])
        link = self.paths.link(self.entry.number)
        if link in network.links(self.paths):
            network.remove(link)
        cgroup.remove(self.paths, self.entry.number)
        self.paths.pid_file(self.name).unlink(missing_ok=True)

    def boot(self) -> None:
        """Power the host on and wait until it is ready. Raises `Refused` when it is on already."""
        if self.first_process() is not None:
            raise Refused(
                f"{self.name} is powered on already.",
                f"Power it off first: fleet lab kill {self.name} --name {self.paths.name}",
            )
        self.kill()
        self.power_on()
        plug_in([self])
        self.wait_ready()

    def power_on(self) -> None:
        """Start PID 1 of the host. Its network link is not in the bridge yet, and its services may still be starting."""
        cable = network.cable(self.paths, self.entry, IPv4Network(self.subnet), getpid())
        folder = self.paths.disks / self.name
        with as_file(files("fleet.lab.hosts").joinpath("boot.sh")) as script, tempfile.TemporaryFile() as errors:
            argv = ["unshare", "--mount", "--uts", "--ipc", "--net", "--", "/bin/sh", str(script)]
            done = subprocess.run(
                [*argv, str(folder), *self._how_to_boot(), *self.show],
                input=cable.encode(),
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                env=environment(),
                timeout=BOOT_S,
            )
            errors.seek(0)
            output = errors.read().decode("utf-8", "replace").strip()
        if done.returncode != 0:
            raise FleetError(f"{self.name} does not boot: {output or f'exit code {done.returncode}'}.")
        pid = int(done.stdout)
        start = started(pid)
        if start is None:
            raise FleetError(f"{self.name}: its first process ended. {self.boot_log()}")
        pid_file = self.paths.pid_file(self.name)
        pid_file.parent.mkdir(exist_ok=True)
        pid_file.write_text(f"{pid} {start}\n")

    def _how_to_boot(self) -> list[str]:
        """What `boot.sh` needs to know of this host: LAYERS HOSTNAME INIT GROUPS."""
        layers = ":".join(map(str, (*map(self.paths.layer, self.entry.layers), self.paths.template)))
        if self.entry.init is Init.RC:
            return [layers, self.name, disk.INIT, ""]
        groups = [str(top / self.paths.link(self.entry.number)) for top in cgroup.hierarchies(self.entry.init)]
        return [layers, self.name, systemd.init(self.entry.init), " ".join(groups)]

    def wait_ready(self) -> None:
        """Wait until /etc/rc has ended, or systemd has booted, and sshd listens. Raises `FleetError` with the boot log."""
        first = self.first_process()
        ready = Path(f"/proc/{first.pid if first else 0}/root/run/ready")

        def is_decided() -> bool:
            return self.first_process() is None or (ready.exists() and self.listens(22))

        decided = wait_until(is_decided, within_s=BOOT_S)
        self.check_alive()
        if not decided:
            raise FleetError(f"{self.name} is not ready after {BOOT_S:.0f} s. Its boot log: {self.boot_log()}")

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
        """What the host's init and /etc/rc printed; of a host that runs with systemd, also the journal's warnings."""
        try:
            printed = (self.disk / "var/log/boot.log").read_text(errors="replace").strip()
        except OSError:
            printed = ""
        if self.entry.init is Init.RC or self.first_process() is None:
            return printed
        argv = ["journalctl", "--boot", "--no-pager", "--quiet", "--priority=warning", "--output=cat"]
        try:
            journal = self.exec(argv).stdout.decode("utf-8", "replace")
        except subprocess.TimeoutExpired:
            journal = "The host's journal does not answer."
        return f"{printed}\n{journal}".strip()


def plug_in(hosts: Sequence[LabHost]) -> None:
    """Attach these hosts, all of one lab, to its bridge."""
    try:
        network.plug_in(hosts[0].paths, [host.entry for host in hosts])
    except FleetError:
        # The link of a host goes when its PID 1 ends; then the boot log says more than `ip` does.
        for host in hosts:
            host.check_alive()
        raise
