"""An operator: runs the real `fleet` against a lab, and looks at the hosts without fleet."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.hosts.nginx import OWN, Layout
from fleet.lab.lab import Lab
from tests.support.lab.forks import Controller, Forks
from tests.support.lab.layout import layout_of

FLEET = (sys.executable, "-m", "fleet")
COMMAND_S = 240.0
FORKS = Forks()
"""Where the commands come from that a test waits for. `start` starts a whole `fleet`."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A fleet command that ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of `--output jsonl`."""
        return [json.loads(line) for line in self.out.splitlines()]


def environment(lab: Lab | None = None) -> dict[str, str]:
    """The operator's own, without a terminal's. Each lab has a journal of its own, which goes with it.

    Of fleet's settings only that of the rehearsal stays: `tests/lab/conftest.py` gives it to whole modules.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith("FLEET_") or k == "FLEET_REHEARSE"}
    journal = {"FLEET_JOURNAL": str(journal_of(lab))} if lab else {}
    return {**kept, **journal, "NO_COLOR": "1", "COLUMNS": "160"}


def journal_of(lab: Lab) -> Path:
    """Where the operator of this lab keeps his journal."""
    return lab.inventory.with_name("journal.db")


def fleet(lab: Lab, *words: str, timeout_s: float = COMMAND_S, inventory: Path | None = None) -> Ran:
    """What `fleet -i INVENTORY WORDS` did."""
    return run((words[0], "-i", str(inventory or lab.inventory), *words[1:]), environment(lab), timeout_s)


def run(words: tuple[str, ...], env: Mapping[str, str], timeout_s: float = COMMAND_S) -> Ran:
    """What `fleet WORDS` did, with just this environment. Raises `Stuck`."""
    with TemporaryDirectory(prefix="fleet-test-") as folder:
        asked = Controller(words, Path(folder, "out"), Path(folder, "err"))
        code = FORKS.begin(asked, env).wait(timeout_s)
        return Ran(code, *(path.read_text() for path in (Path(folder, "out"), Path(folder, "err"))))


def start(
    lab: Lab, *words: str, stderr: int = subprocess.STDOUT, inventory: Path | None = None
) -> "subprocess.Popen[str]":
    """The same, running."""
    return subprocess.Popen(
        command_line(lab, *words, inventory=inventory),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env=environment(lab),
        start_new_session=True,
    )


def read(lab: Lab, *words: str) -> str:
    """What `fleet WORDS`, which reads the journal alone, has on stdout."""
    ran = run(words, environment(lab))
    assert ran.code == 0, ran.said
    return ran.out


def command_line(lab: Lab, *words: str, inventory: Path | None = None) -> list[str]:
    """How the operator of this lab begins a command."""
    return [*FLEET, words[0], "-i", str(inventory or lab.inventory), *words[1:]]


def status(lab: Lab) -> dict[str, dict[str, Any]]:
    """`fleet status --json`, by host."""
    ran = fleet(lab, "status", "--json")
    assert ran.code in (0, 4), ran.said
    return {host["name"]: host for host in json.loads(ran.out)["hosts"]}


def phases(lab: Lab) -> set[str]:
    """The phases of all hosts, as status has them."""
    return {str(host["phase"]) for host in status(lab).values()}


@dataclass(frozen=True, slots=True)
class Seen:
    """What a person with a shell sees on a host: the pid file, the running processes, the hashes, `nginx -v`, stray files."""

    pid: int
    masters: tuple[int, ...]
    running_sha256: str
    path_sha256: str
    path_version: str
    stray: tuple[str, ...]


def script(layout: Layout) -> str:
    """Shell that shows it. In folders that nginx shares with other programs, only names that tell of nginx are strays."""
    folders = {str(Path(path).parent) for path in (layout.program, layout.pid_file, layout.error_log)}
    own = "." if layout == OWN else "nginx"
    return f"""
pid=$(cat {layout.pid_file})
echo "$pid"
ps -eo pid=,args= | awk '/[n]ginx: master/ {{print $1}}' | tr '\\n' ' '; echo
sha256sum < /proc/$pid/exe | cut -d' ' -f1
sha256sum < {layout.program} | cut -d' ' -f1
{layout.program} -v 2>&1 | sed 's|.*/||'
ls -A {" ".join(sorted(folders))} | grep {own} | grep -vE '^(nginx|nginx.pid|access.log|error.log|.*:|)$' | tr '\\n' ' ' || true
echo
"""


def look(host: LabHost) -> Seen:
    """The host as it is, seen without fleet."""
    lines = host.sh(script(layout_of(host))).split("\n")
    return Seen(
        pid=int(lines[0]),
        masters=tuple(int(word) for word in lines[1].split()),
        running_sha256=lines[2],
        path_sha256=lines[3],
        path_version=lines[4],
        stray=tuple(lines[5].split()),
    )


def sha256(path: Path) -> str:
    """The hash of a file of the laptop."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def are_as_before(lab: Lab, running: str) -> None:
    """Every host has one master, runs that release, has it at its path, and has nothing beside it. fleet is not asked."""
    for host in lab.hosts:
        seen = look(host)
        assert (seen.masters, seen.running_sha256, seen.path_sha256) == ((seen.pid,), running, running), host.name
        assert seen.stray == (), (host.name, seen)


def agrees(lab: Lab, phase: str, running: str) -> None:
    """Every host is in that phase and runs that release, and status says just what a person sees there."""
    told = status(lab)
    for host in lab.hosts:
        seen, said = look(host), told[host.name]
        assert said["phase"] == phase, said
        assert said["running_sha256"] == seen.running_sha256 == running, (host.name, said, seen)
        assert said["path_sha256"] == seen.path_sha256 == running
        assert said["masters"][-1]["pid"] == seen.pid
        assert sorted(one["pid"] for one in said["masters"]) == sorted(seen.masters)
        assert said["path_version"] == seen.path_version == said["running_version"]
        assert said["held"] is (phase == "TRIAL")
