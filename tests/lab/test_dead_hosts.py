"""An incident: five hosts are dead in five ways, and all others are back before fleet gives up the last dead one.

`FLEET_DEAD_HOSTS` says how many hosts there are in all; the evidence in docs/ssh.md is of 50.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.kinds.nginx_kinds import HOLD_DOWNLOAD
from fleet.lab.lab import Lab
from fleet.lab.releases.build import DEFAULT_BASE
from tests.lab.conftest import MakeLab
from tests.support.lab.operator import fleet, look, read, sha256, start
from tests.support.ssh.server import Proxy

HOSTS = int(os.environ.get("FLEET_DEAD_HOSTS", "50"))
DEAD = {
    "switched off": {"unreachable_no_route", "timed_out"},
    "its sshd is gone": {"refused"},
    "accepts and says nothing": {"no_banner"},
    "freezes in the upload": {"transfer_stalled"},
    "freezes in the step": {"no_answer"},
}
"""Each way, and the reasons that fleet may give for it."""
BASE = sha256(DEFAULT_BASE)

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(HOSTS)


def victim(lab: Lab, way: str) -> LabHost:
    return lab.hosts[list(DEAD).index(way)]


@pytest.fixture
def proxies(lab: Lab) -> Iterator[dict[str, Proxy]]:
    """The two hosts that will freeze are reached through a proxy."""
    ways = [way for way in DEAD if way.startswith("freezes")]
    made = {way: Proxy(22, to=victim(lab, way).address) for way in ways}
    yield made
    for proxy in made.values():
        proxy.close()


@pytest.fixture
def inventory(lab: Lab, proxies: dict[str, Proxy], tmp_path: Path) -> Path:
    """The lab's inventory, with the proxies in it."""
    text, known = lab.inventory.read_text(), lab.paths.known_hosts.read_text()
    for way, proxy in proxies.items():
        host = victim(lab, way)
        text = text.replace(
            f'{host.name}: {{ansible_host: "{host.address}"',
            f'{host.name}: {{ansible_host: "127.0.0.1", ansible_port: {proxy.port}',
        )
        key = next(line.split(maxsplit=1)[1] for line in known.splitlines() if line.startswith(f"{host.name},"))
        known += f"[127.0.0.1]:{proxy.port} {key}\n"
    (tmp_path / "known_hosts").write_text(known)
    text = text.replace(json.dumps(str(lab.paths.known_hosts)), json.dumps(str(tmp_path / "known_hosts")))
    assert text.count('127.0.0.1", ansible_port') == len(proxies)
    found = tmp_path / "inventory.yaml"
    found.write_text(text)
    return found


Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ended:
    """A rollback: its exit code, the ends of its visits in order, and what it took in seconds."""

    code: int
    visits: tuple[Event, ...]
    last_back_s: float
    took_s: float

    @property
    def back(self) -> list[str]:
        """The hosts that were rolled back, in order."""
        return [event["host"] for event in self.visits if is_back(event)]

    def place_of_last(self, hosts: Collection[str]) -> int:
        """The place of these hosts' last visit among all visits."""
        return max(place for place, event in enumerate(self.visits) if event["host"] in hosts)


def is_back(event: Event) -> bool:
    return bool(event.get("ask") == "rollback" and event["outcome"] == "done")


def rollback(lab: Lab, inventory: Path, on_event: Callable[[Event], object] = bool) -> Ended:
    """A rollback of all hosts. `on_event` is called with each event."""
    words = ("rollback", "-y", "--output", "jsonl")
    began_s = time.monotonic()
    visits: list[Event] = []
    last_back_s = 0.0
    with start(lab, *words, stderr=subprocess.DEVNULL, inventory=inventory) as process:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            on_event(event)
            if event["type"] == "visit_ended":
                visits.append(event)
                if is_back(event):
                    last_back_s = time.monotonic() - began_s
        code = process.wait()
    return Ended(code, tuple(visits), last_back_s, time.monotonic() - began_s)


def die(lab: Lab) -> None:
    """Three are dead from the first moment on; one will freeze while the step script is brought to it, and one in the
    step that ends its new nginx, which a download makes last until the freeze has come."""
    victim(lab, "switched off").kill()
    victim(lab, "its sshd is gone").sh("kill $(cat /run/sshd.pid)")
    victim(lab, "accepts and says nothing").sh("kill -STOP $(cat /run/sshd.pid)")
    victim(lab, "freezes in the upload").sh("rm -r /var/lib/fleet/bundles")
    victim(lab, "freezes in the step").sh(HOLD_DOWNLOAD)


def test_the_others_are_back_before_the_dead_are_given_up_and_each_has_its_reason(
    lab: Lab, inventory: Path, proxies: dict[str, Proxy], release: Path
) -> None:
    brisk = ("-y", "--bake", "0s", "--settle", "500ms", "--batches", "100%", "--commit", "never", "--parallel", "10")

    def upgrade() -> None:
        ran = fleet(lab, "upgrade", str(release), *brisk, inventory=inventory)
        assert ran.code == 0, ran.said

    upgrade()
    alone = rollback(lab, inventory)
    assert (alone.code, len(alone.back)) == (0, HOSTS)
    upgrade()
    die(lab)
    proxies["freezes in the upload"].freeze_after(64 << 10)
    in_step = victim(lab, "freezes in the step")

    def freeze(event: Event) -> None:
        if event["host"] == in_step.name and event["type"] == "step_started":
            proxies["freezes in the step"].freeze()

    ended = rollback(lab, inventory, freeze)

    dead = {victim(lab, way).name: way for way in DEAD}
    print(
        f"{HOSTS - len(DEAD)} of {HOSTS} hosts were back after {ended.last_back_s:.1f} s, "
        f"without dead hosts after {alone.last_back_s:.1f} s; fleet gave up the dead ones after {ended.took_s:.1f} s"
    )
    assert ended.code == 4
    assert set(ended.back) == {host.name for host in lab.hosts} - set(dead)
    assert ended.place_of_last(ended.back) < ended.place_of_last(dead), "the others waited for every dead host"
    rows = [row for row in read(lab, "show").splitlines() if "needs a person" in row]
    for name, way in dead.items():
        (row,) = [row for row in rows if row.startswith(f"{name} ")]
        assert any(f"unreachable ({word})" in row for word in DEAD[way]), (way, row)
    for host in lab.hosts:
        if host.name not in dead:
            assert look(host).running_sha256 == BASE
    victim(lab, "accepts and says nothing").sh("kill -CONT $(cat /run/sshd.pid)")
