"""Each bad release on three hosts in batches of 1 and 2: which step finds it, and every host is as before afterwards.

The rehearsal finds them all before a user meets them. Without it, the canary finds those that start.

`python -m pytest tests/lab/test_bad_releases.py -rP` prints the outcome table.
"""

import time
from pathlib import Path
from typing import NamedTuple

import pytest

from fleet.lab.lab import Lab
from fleet.lab.releases.build import DEFAULT_BASE, KINDS, make_release
from fleet.lab.traffic.load import Traffic
from tests.lab.conftest import MakeLab
from tests.support.lab.operator import agrees, fleet, look, sha256

BASE = sha256(DEFAULT_BASE)


ALL = 3


class Found(NamedTuple):
    """Where a kind is found: on the laptop, in preflight on every host, or by a step on the first host only."""

    code: int
    where: str
    hosts: int


EXPECTED = {
    "truncated": Found(2, "laptop", 0),
    "not-executable": Found(2, "laptop", 0),
    "wrong-arch": Found(2, "stage", ALL),
    "missing-lib": Found(2, "stage", ALL),
    "bad-config": Found(2, "stage", ALL),
    "crash-workers": Found(2, "stage", ALL),
    "hang-workers": Found(2, "stage", ALL),
    "crash-on-request": Found(2, "stage", ALL),
    "hung-master": Found(2, "stage", ALL),
    "errors": Found(2, "stage", ALL),
}
UNREHEARSED = {
    "missing-lib": Found(2, "stage", ALL),
    "bad-config": Found(3, "launch", 1),
    "crash-workers": Found(3, "verify", 1),
    "hang-workers": Found(3, "verify", 1),
    "crash-on-request": Found(3, "verify", 1),
    "hung-master": Found(3, "verify", 1),
    "errors": Found(3, "verify", 1),
}
HARMS_THE_CANARY = {"crash-on-request", "errors"}
"""Kinds that answer real users wrongly between `launch` and the bad answer to the first probe."""
SHORT = ("crash-workers", "errors")
CASES = [pytest.param(kind, "auto") for kind in EXPECTED] + [
    pytest.param(kind, "off", marks=() if kind in SHORT else pytest.mark.long) for kind in UNREHEARSED
]


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(ALL)


def test_every_bad_kind_is_tried() -> None:
    assert set(EXPECTED) == set(KINDS) - {"new"}


def test_without_probes_a_crash_on_the_first_request_is_found_by_the_log(lab: Lab, tmp_path: Path) -> None:
    """Real users are the canary then, unless it is rehearsed: verify's settle time or the bake sees the workers die."""
    inventory = tmp_path / "hosts.yaml"
    text = lab.inventory.read_text()
    start = text.index("    fleet_probes:")
    inventory.write_text(text[:start] + text[text.index("  hosts:") :])
    release = make_release("crash-on-request", tmp_path / "nginx")

    words = ("-y", "--batches", "1,2", "--bake", "3s", "--rehearse", "off")
    with Traffic({host.name: f"{host.address}:80" for host in lab.hosts}):
        ran = fleet(lab, "upgrade", str(release), *words, inventory=inventory)

    assert ran.code == 3, ran.said
    assert "exited on signal" in ran.said
    agrees(lab, "OLD", BASE)


@pytest.mark.parametrize(("kind", "rehearse"), CASES)
def test_a_bad_release_is_found_and_all_is_as_before(kind: str, rehearse: str, lab: Lab, tmp_path: Path) -> None:
    expected = EXPECTED[kind] if rehearse == "auto" else UNREHEARSED[kind]
    release = make_release(kind, tmp_path / "nginx")
    targets = {host.name: f"{host.address}:80" for host in lab.hosts}
    before = {host.name: look(host) for host in lab.hosts}

    with Traffic(targets) as traffic:
        began_s = time.monotonic()
        words = ("--batches", "1,2", "--bake", "1s", "-y", "--output", "jsonl", "--rehearse", rehearse)
        ran = fleet(lab, "upgrade", str(release), *words)
        took_s = time.monotonic() - began_s
        report = traffic.stop()

    wrong = [
        e for e in ran.events if e["outcome"] in ("failed", "refused") and e["type"] in ("step_ended", "visit_ended")
    ]
    hosts = {e["host"] for e in wrong}
    where = next((e["step"] for e in wrong if e["step"] and e["outcome"] == "failed"), "stage" if wrong else "laptop")
    print(
        f"{kind:17} {rehearse:4} {where:7} {len(hosts)} hosts, {report.failed()} failed requests, {took_s:5.1f} s, "
        f"exit {ran.code}"
    )
    assert (ran.code, where, len(hosts)) == expected, ran.said
    changed = {e["host"] for e in ran.events if e["type"] == "step_started" and e["step"] not in ("stage", None)}
    assert len(changed) == (1 if ran.code == 3 else 0)
    agrees(lab, "OLD", BASE)
    assert {host.name: look(host) for host in lab.hosts} == before, "not the same masters, or something was left lying"
    if rehearse == "off" and kind in HARMS_THE_CANARY:
        assert {each.host for each in report.failures} <= changed, str(report)
    else:
        assert report.failed() == 0, str(report)
