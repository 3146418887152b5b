"""Failure modes of nginx's own upgrade on whole hosts: made on purpose, told by their words, and none left half-way.

`tests/onhost/test_failure_modes.py` makes the others on one nginx; here are those that need a host around it, and the
ones that are met on a held host, taken back by the real `fleet` under traffic.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.hosts.nginx import ERROR_LOG, PID_FILE, PREFIX, PROGRAM
from fleet.lab.lab import Lab
from fleet.lab.releases.build import DEFAULT_BASE, make_release
from fleet.lab.traffic.load import Traffic
from tests.lab.conftest import MakeLab
from tests.lab.test_preflight import systemd
from tests.support.lab.carried import carry, run_there
from tests.support.lab.operator import Ran, fleet, look, sha256, status

BASE = sha256(DEFAULT_BASE)
HELD = ("-y", "--bake", "0s", "--settle", "500ms", "--batches", "100%", "--commit", "never", "--output", "jsonl")
RELEASE = "/opt/release"
OLD, NEW = f"$(cat {PID_FILE}.oldbin)", f"$(cat {PID_FILE})"
SERVING = "nginx: worker proces[s]$"


@dataclass(frozen=True)
class Fault:
    """A fault of one host, the reasons that its rollback reports, and what may be lost: nothing, unless a process is killed."""

    shell: str
    words: frozenset[str]
    loses: bool = False


def count(master: str, workers: int) -> str:
    """Shell that waits until so many workers of that master serve."""
    return f"until [ $(pgrep -c -P {master} -f '{SERVING}') = {workers} ]; do sleep 0.02; done"


def stop(master: str) -> str:
    """Shell that stops the master: the signals sent to it from then on are pending together when it continues."""
    return f"kill -STOP {master}; until grep -q '^State:.T' /proc/{master}/status; do sleep 0.02; done"


HELD_FAULTS: Mapping[str, Fault] = {
    "WINCH and HUP pending together": Fault(
        f"o={OLD}; {stop('$o')}; kill -HUP $o; kill -WINCH $o; kill -CONT $o; {count('$o', 2)}", frozenset()
    ),
    "a second HUP": Fault(
        f"o={OLD}; kill -HUP $o; {count('$o', 2)}; kill -HUP $o; {count('$o', 4)}",
        frozenset({"workers_doubled", "workers_normal"}),
    ),
    "the new master killed, its workers orphans": Fault(
        f"o={OLD}; kill -KILL {NEW}; {count('$o', 2)}", frozenset({"orphans_ended"})
    ),
    "the new master stopped": Fault(f"kill -STOP {NEW}", frozenset({"new_master_woken"})),
    "a log rotation that reached only the new master": Fault(
        f"mv {ERROR_LOG} {ERROR_LOG}.1; kill -USR1 {NEW}; until [ -e {ERROR_LOG} ]; do sleep 0.02; done",
        frozenset({"log_reopened"}),
    ),
    "the kept binary and the store's are gone": Fault(
        f"rm {PREFIX}/sbin/.nginx.fleet-kept; rm -r /var/lib/fleet/releases/{BASE}",
        frozenset({"release_rescued", "image_deleted"}),
    ),
    "no process accepts: WINCH to the new master": Fault(
        f"kill -WINCH {NEW}; while pgrep -P {NEW} -f '{SERVING}' >/dev/null; do sleep 0.02; done",
        frozenset({"nobody_accepted"}),
        loses=True,
    ),
    "systemd follows the new master": Fault(
        systemd(f"Id=nginx.service\\\\nType=forking\\\\nPIDFile={PID_FILE}\\\\nMainPID=77\\\\n")
        + f"; echo {OLD} > $group/cgroup.procs",
        frozenset({"unit_main_pid_stale"}),
    ),
}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release("new", tmp_path_factory.mktemp("release") / "nginx")


@pytest.fixture(scope="module")
def hosts(make_lab: MakeLab) -> Lab:
    return make_lab(len(HELD_FAULTS))


def spoil(host: LabHost, shell: str) -> None:
    host.sh(shell.replace("@LINK@", host.paths.link(host.entry.number)), timeout_s=60)


def said(ran: Ran) -> dict[str, set[str]]:
    """The reasons in the events of each host."""
    found: dict[str, set[str]] = {}
    for event in ran.events:
        found.setdefault(str(event.get("host")), set()).add(str(event.get("reason")))
    return found


def is_back(host: LabHost, master: int) -> None:
    """The same master runs and lies at the path, with one set of workers, nothing beside it and no orphan."""
    seen = look(host)
    assert (seen.masters, seen.pid) == ((master,), master), (host.name, seen)
    assert (seen.running_sha256, seen.path_sha256) == (BASE, BASE), host.name
    assert set(seen.stray) <= {"error.log.1"}, (host.name, seen)
    host.sh(count(str(master), 2), timeout_s=60)
    host.sh("while pgrep -P 1 -f 'nginx: worke[r]' >/dev/null; do sleep 0.02; done", timeout_s=60)


def test_faults_on_held_hosts_are_reported_and_their_rollback_loses_nothing(hosts: Lab, release: Path) -> None:
    masters = {host.name: look(host).pid for host in hosts.hosts}
    ran = fleet(hosts, "upgrade", str(release), *HELD)
    assert ran.code == 0, ran.said
    faults = dict(zip(hosts.hosts, HELD_FAULTS.items(), strict=True))

    spared = {host.name: f"{host.address}:80" for host, (_, fault) in faults.items() if not fault.loses}
    with Traffic(spared) as traffic:
        for host, (_, fault) in faults.items():
            spoil(host, fault.shell)
        ran = fleet(hosts, "rollback", "-y", "--output", "jsonl")
        report = traffic.stop()

    assert ran.code == 0, ran.said
    heard = said(ran)
    spoken = {name: heard[host.name] - {"None"} for host, (name, _) in faults.items()}
    assert spoken == {name: fault.words for name, fault in HELD_FAULTS.items()}, ran.said
    for host in hosts.hosts:
        is_back(host, masters[host.name])
        assert status(hosts)[host.name]["phase"] == "OLD"
    assert report.failed() == 0, str(report)


@pytest.fixture(scope="module")
def two(make_lab: MakeLab) -> Lab:
    return make_lab(2)


def test_a_stale_oldbin_and_an_empty_pid_file_stop_no_commit_and_no_rollback(two: Lab, release: Path) -> None:
    stale, empty = two.hosts
    ran = fleet(two, "upgrade", str(release), *HELD)
    assert ran.code == 0, ran.said
    stale.sh(f"o={OLD}; kill -KILL $o; while kill -0 $o 2>/dev/null; do sleep 0.02; done; [ -e {PID_FILE}.oldbin ]")

    ran = fleet(two, "commit", "-y", "--output", "jsonl")
    assert ran.code == 0, ran.said
    assert "stale_oldbin" in said(ran)[stale.name]
    assert [look(host).stray for host in two.hosts] == [(), ()]
    empty.sh(f": > {PID_FILE}")

    ran = fleet(two, "rollback", "-y", "--output", "jsonl")

    assert ran.code == 0, ran.said
    assert "pid_file_rewritten" in said(ran)[empty.name]
    for host in two.hosts:
        seen = look(host)
        assert (seen.running_sha256, seen.path_sha256, len(seen.masters), seen.stray) == (BASE, BASE, 1, ())


# What can fall in between two looks of the step script


@dataclass
class Visited:
    """A host that is upgraded by a step script of the test's own, one epoch after the other."""

    host: LabHost
    epoch: int = 0

    def upgrade(
        self, before: str = "", after: str = "", at: str = "SIGUSR2", allow: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """What the visit says; the shell is run just before and just after the first such signal."""
        self.epoch += 1
        return self._visit("upgrade", {"before": before, "after": after, "at": at, "allow": list(allow)})

    def roll_back(self) -> dict[str, Any]:
        return self._visit("rollback", {"before": "", "after": "", "at": "SIGUSR2", "allow": []})

    def _visit(self, ask: str, spoilt: dict[str, object]) -> dict[str, Any]:
        words = {"binary": PROGRAM, "pid_file": PID_FILE, "release": RELEASE, "rollout": f"r{self.epoch}", "ask": ask}
        told: dict[str, Any] = run_there(
            self.host, "tests.support.lab.puppet_upgrade", {**words, "epoch": self.epoch, **spoilt}
        )
        return told


@pytest.fixture(scope="module")
def poisonable(make_lab: MakeLab, release: Path) -> Lab:
    lab = make_lab(2, {"lab-001": "pids-short"})
    for host in lab.hosts:
        carry(host, {})
        done = host.exec(["/bin/sh", "-euc", f"cat > {RELEASE}; chmod 755 {RELEASE}"], input=release.read_bytes())
        assert done.returncode == 0
    return lab


GROUP = (
    "top=/sys/fs/cgroup; [ -d $top/pids ] && top=$top/pids; "
    f"g=$top$(sed -n 's/^[0-9]*:\\(pids\\)\\{{0,1\\}}://p' /proc/$(cat {PID_FILE})/cgroup | head -n 1); "
)
NO_MORE = GROUP + "cat $g/pids.current > $g/pids.max"
ENOUGH = GROUP + "echo max > $g/pids.max"
LOGS = f"{PREFIX}/logs"
READ_ONLY = f"mount --bind {LOGS} {LOGS}; mount -o remount,bind,ro {LOGS}"

POISONS = {
    "poisoned_by_fork": (0, ENOUGH, NO_MORE, ENOUGH),
    "poisoned_by_rename": (1, ":", READ_ONLY, f"umount -l {LOGS}"),
}


@pytest.mark.parametrize("word", POISONS)
def test_a_master_that_is_poisoned_is_known_and_cured_by_the_next_upgrade(word: str, poisonable: Lab) -> None:
    number, first, fault, repair = POISONS[word]
    host = poisonable.hosts[number]
    visited = Visited(host)
    host.sh(first)
    master = look(host).pid

    told = visited.upgrade(fault)

    assert (told["outcome"], told["reason"], told["phase"]) == ("failed", word, "OLD"), told
    assert "reload" in told["remedy"]
    assert "still_poisoned" in told["said"]
    host.sh(repair)
    is_back(host, master)
    assert visited.upgrade()["reason"] == "poisoned"

    told = visited.upgrade(allow=("poisoned",))

    assert (told["outcome"], told["phase"]) == ("done", "TRIAL"), told
    assert visited.roll_back()["outcome"] == "done"
    host.sh(
        f"old=$(pgrep -P {master}); kill -HUP {master}; for p in $old; do while [ -e /proc/$p ]; do sleep 0.02; done; done"
    )
    is_back(host, master)


def test_hup_and_winch_from_two_senders_at_once_are_handled_one_after_the_other(poisonable: Lab) -> None:
    """A reload arrives just when fleet drains: the WINCH would fire at the new master's end, and no process would accept."""
    host = poisonable.hosts[1]
    master = look(host).pid
    visited = Visited(host, epoch=10)

    told = visited.upgrade(f"{stop('$PID')}; kill -HUP $PID", "kill -CONT $PID", at="SIGWINCH")

    assert (told["outcome"], told["phase"]) == ("done", "TRIAL"), told
    assert "winch_put_off" in told["said"]
    assert visited.roll_back()["outcome"] == "done"
    is_back(host, master)
