"""Fleet and its peers: the command of each for each job, and what brings the hosts to where that job begins."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from tests.bench.peers.bench_lab import BenchLab
from tests.bench.peers.clients.task import Task
from tests.bench.peers.jobs import NEXT, STDIN, UPLOADS, Job, Release, script, upgrade_script

AT_ONCE = 50
PINNED = "-o KexAlgorithms=curve25519-sha256"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run works: the lab, a folder for its files, and a journal that this job alone has."""

    there: BenchLab
    folder: Path
    journal: Path
    peers: Path
    """The virtual environment of the peers."""


class Contender(Protocol):
    """One who does the jobs."""

    @property
    def name(self) -> str: ...

    @property
    def jobs(self) -> tuple[Job, ...]: ...

    def meet(self, place: Place) -> list[list[str]]:
        """The commands after which the hosts of a new lab are not new to it any more; they are not measured."""
        ...

    def prepare(self, job: Job, place: Place, release: Release) -> list[list[str]]:
        """The commands that bring the hosts to where the job begins; they are not measured."""
        ...

    def command(self, job: Job, place: Place, release: Release) -> list[str]:
        """The command that is measured. It brings the hosts to `release`; from it, if the job is HELD."""
        ...


@dataclass(frozen=True, slots=True)
class Fleet:
    """Fleet itself, without batches and without a bake, as its peers work."""

    name: str
    program: str
    rehearse: str = "off"
    jobs: tuple[Job, ...] = tuple(Job)

    def meet(self, place: Place) -> list[list[str]]:
        return [self._fleet(place, "status")]

    def prepare(self, job: Job, place: Place, release: Release) -> list[list[str]]:
        if job is Job.FIRST:
            return [over_ssh(place, PINNED, "rm -rf /var/lib/fleet", None)]
        if job is Job.STAGED:
            return [self._fleet(place, "check", str(release.path), "--rehearse", self.rehearse)]
        if job is Job.HELD:
            return [self._upgrade(place, release, "--commit", "never")]
        if job is Job.COMMITTED:
            return [self._upgrade(place, release)]
        return []

    def command(self, job: Job, place: Place, release: Release) -> list[str]:
        if job is Job.STATUS:
            return self._fleet(place, "status")
        if job in (Job.HELD, Job.COMMITTED):
            return self._fleet(place, "rollback", "--yes", "--output", "plain", "--journal", str(place.journal))
        return self._upgrade(place, release)

    def _upgrade(self, place: Place, release: Release, *more: str) -> list[str]:
        at_once = ["--batches", "100%", "--bake", "0s", "--settle", "0s", "--rehearse", self.rehearse]
        shown = ["--yes", "--output", "plain", "--journal", str(place.journal)]
        return self._fleet(place, "upgrade", str(release.path), *at_once, *shown, *more)

    def _fleet(self, place: Place, command: str, *words: str) -> list[str]:
        return [*shlex.split(self.program), command, "-i", str(place.there.lab.inventory), *words]


@dataclass(frozen=True, slots=True)
class Shell:
    """`xargs -P50 ssh`: one connection a host, the script in its command, the release on its stdin."""

    name: str
    options: str
    jobs: tuple[Job, ...] = tuple(Job)

    def meet(self, place: Place) -> list[list[str]]:
        return []

    def prepare(self, job: Job, place: Place, release: Release) -> list[list[str]]:
        return prepare_bare(job, place, release)

    def command(self, job: Job, place: Place, release: Release) -> list[str]:
        given = release.path if job in UPLOADS else None
        return over_ssh(place, self.options, script(job, release, STDIN), given)


@dataclass(frozen=True, slots=True)
class Client:
    """A peer that runs in the Python of the peers' virtual environment. `argv` is what comes before the task's file."""

    name: str
    argv: tuple[str, ...]
    streams: bool = False
    """Whether the release goes to the command's stdin; if not, to a file on the host first."""
    jobs: tuple[Job, ...] = (Job.COLD, Job.HELD, Job.COMMITTED, Job.STATUS)

    def meet(self, place: Place) -> list[list[str]]:
        return []

    def prepare(self, job: Job, place: Place, release: Release) -> list[list[str]]:
        return prepare_bare(job, place, release)

    def command(self, job: Job, place: Place, release: Release) -> list[str]:
        task = Task(
            names=[host.name for host in place.there.hosts],
            addresses=[host.address for host in place.there.hosts],
            key=str(place.there.lab.private_key),
            known_hosts=str(place.there.lab.known_hosts),
            command=script(job, release, STDIN if self.streams else NEXT),
            release=str(release.path) if job in UPLOADS else None,
            target=NEXT,
            at_once=AT_ONCE,
        )
        (place.folder / "task.json").write_text(json.dumps(asdict(task)))
        values = {"bin": str(place.peers / "bin"), "folder": str(place.folder)}
        return [word.format_map(values) for word in self.argv]


def over_ssh(place: Place, options: str, command: str, given: Path | None) -> list[str]:
    """`xargs -P50 ssh` to every host of the lab."""
    hosts, text = place.folder / "hosts", place.folder / "command"
    hosts.write_text("".join(f"{host.name}\n" for host in place.there.hosts))
    text.write_text(command)
    ssh = f'exec ssh -F {place.there.lab.ssh_config} {options} "$1" "$2" <{given or "/dev/null"}'
    line = f'xargs -P{AT_ONCE} -I@ sh -c {shlex.quote(ssh)} sh @ "$(cat {text})" <{hosts}'
    return ["/bin/sh", "-c", line]


def prepare_bare(job: Job, place: Place, release: Release) -> list[list[str]]:
    """The same for all peers: what a job needs is done by the quickest of them."""
    if job is Job.STAGED:
        return [over_ssh(place, PINNED, f"cat >{NEXT}", release.path)]
    if job is Job.HELD:
        return [over_ssh(place, PINNED, upgrade_script(release.version, hold=True), release.path)]
    if job is Job.COMMITTED:
        return [over_ssh(place, PINNED, upgrade_script(release.version), release.path)]
    return []


CLIENTS = (
    Client(
        "asyncssh", ("{bin}/python", "-m", "tests.bench.peers.clients.by_asyncssh", "{folder}/task.json"), streams=True
    ),
    Client("Fabric", ("{bin}/python", "-m", "tests.bench.peers.clients.by_fabric", "{folder}/task.json")),
    Client("parallel-ssh", ("{bin}/python", "-m", "tests.bench.peers.clients.by_parallel_ssh", "{folder}/task.json")),
    Client("pyinfra", ("{bin}/python", "-m", "tests.bench.peers.clients.run_pyinfra", "{folder}/task.json")),
    Client("ansible-core", ("{bin}/python", "-m", "tests.bench.peers.clients.run_ansible", "{folder}/task.json")),
)


def contenders(fleets: Sequence[tuple[str, str]]) -> tuple[Contender, ...]:
    """All of them; `fleets` are names and commands of versions of fleet."""
    ours: list[Contender] = []
    for name, program in fleets:
        ours += [Fleet(name, program), Fleet(f"{name}, rehearsed", program, "auto", (Job.COLD, Job.STAGED))]
    return (*ours, Shell("xargs ssh, pinned", PINNED), Shell("xargs ssh", ""), *CLIENTS)
