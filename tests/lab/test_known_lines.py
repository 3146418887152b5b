"""Hosts whose running release writes alerts at its start, upgraded by the real `fleet`: compared with it, not with silence."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fleet.lab.hosts.nginx import ERROR_LOG, PID_FILE
from fleet.lab.lab import Lab
from fleet.lab.releases.build import DEFAULT_BASE
from tests.lab.conftest import MakeLab
from tests.support.complaints import AFFINITY_BROKEN, AFFINITY_FAILED, RLIMIT_FAILED, make_other_words
from tests.support.lab.operator import Ran, agrees, fleet, read, sha256

BASE = sha256(DEFAULT_BASE)
KINDS = {"lab-001": "alert-affinity", "lab-002": "alert-rlimit", "lab-003": "plain"}
QUICK = ("-y", "--batches", "100%", "--bake", "1s", "--settle", "500ms")
UNREHEARSED = ("--rehearse", "off")


@pytest.fixture(scope="module")
def hosts(make_lab: MakeLab) -> Lab:
    return make_lab(len(KINDS), KINDS)


@pytest.fixture(scope="module")
def other_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_other_words(tmp_path_factory.mktemp("other") / "nginx")


def findings(ran: Ran, reason: str) -> Mapping[str, list[Any]]:
    """The messages with that reason, by host."""
    found: dict[str, list[Any]] = {}
    for event in ran.events:
        if event["type"] == "finding" and event["reason"] == reason:
            found.setdefault(event["host"], []).append(event["message"])
    return found


def test_what_the_running_release_logs_too_is_shown_once_and_passes(hosts: Lab, release: Path) -> None:
    ran = fleet(hosts, "upgrade", str(release), *QUICK, "--output", "jsonl")

    assert ran.code == 0, ran.said
    told = findings(ran, "log_known")
    assert {host: len(messages) for host, messages in told.items()} == {"lab-001": 1, "lab-002": 1}
    assert AFFINITY_FAILED in told["lab-001"][0]
    assert RLIMIT_FAILED in told["lab-002"][0]
    assert all("also written by the running release, last at 20" in messages[0] for messages in told.values())
    assert fleet(hosts, "rollback", "-y").code == 0
    agrees(hosts, "OLD", BASE)


def test_a_new_alert_fails_twice_and_passes_once_it_is_allowed_by_name(hosts: Lab, other_words: Path) -> None:
    """Also after two log rotations: the running release's lines are in error.log.2.gz then."""
    host = hosts.hosts[0]
    for _ in range(2):
        ran = fleet(hosts, "upgrade", str(other_words), *QUICK, *UNREHEARSED, "--output", "jsonl")

        assert ran.code == 3, ran.said
        failed = [e for e in ran.events if e["type"] == "step_ended" and e["outcome"] == "failed"]
        assert [(e["host"], e["reason"]) for e in failed] == [("lab-001", "log_bad")], ran.said
        assert "The running release wrote none like them in " in failed[0]["message"]
        agrees(hosts, "OLD", BASE)
        host.sh(
            f"cd {Path(ERROR_LOG).parent}; [ ! -e error.log.1 ] || {{ mv error.log.1 error.log.2; gzip error.log.2; }}; "
            f"mv error.log error.log.1; kill -USR1 $(cat {PID_FILE}); until [ -e error.log ]; do sleep 0.02; done"
        )

    allow = f"log-line={AFFINITY_BROKEN.partition(' (')[0]}*"
    ran = fleet(hosts, "upgrade", str(other_words), *QUICK, *UNREHEARSED, "--allow", allow, "--output", "jsonl")

    assert ran.code == 0, ran.said
    assert set(findings(ran, "log_allowed")) == {"lab-001"}
    assert set(findings(ran, "log_known")) == {"lab-002"}
    assert f"--allow '{allow}'" in read(hosts, "show")
    assert allow in json.dumps(json.loads(read(hosts, "show", "--json")))
