"""The events of a run as JSON lines, on stdout and in the log file."""

import json
from pathlib import Path

from tests.support.pretend.visits import NEW
from tests.support.shell import QUICK, ROLLOUT, Shell

EVENT_KEYS = {"schema", "at", "rollout", "type", "host", "batch", "step", "outcome", "reason", "message", "took_s"}


def test_every_line_of_jsonl_is_an_event_and_the_last_one_has_the_result(shell: Shell) -> None:
    code = shell("upgrade", NEW, "-y", *QUICK, "--output", "jsonl")

    lines = [json.loads(line) for line in shell.out.splitlines()]
    assert code == 0
    assert all(set(line) >= EVENT_KEYS for line in lines)
    assert {line["schema"] for line in lines} == {"fleet.event/1"}
    assert lines[0]["type"] == "rollout_started"
    last = lines[-1]
    assert (last["type"], last["result"], last["exit_code"]) == ("rollout_ended", "completed", 0)
    assert last["counts"] == {
        "hosts": 4,
        "done": 4,
        "failed": 0,
        "refused": 0,
        "unreachable": 0,
        "unverified": 0,
        "rolled_back": 0,
        "begun": 0,
        "not_begun": 0,
        "left_alone": 0,
    }


def test_one_event_in_full(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--output", "jsonl")

    ended = [json.loads(line) for line in shell.out.splitlines() if '"visit_ended"' in line and '"upgrade"' in line]
    assert ended[0] == {
        "schema": "fleet.event/1",
        "at": "2026-11-23T10:00:00.000Z",
        "rollout": ROLLOUT,
        "type": "visit_ended",
        "host": "web-01",
        "batch": 1,
        "step": None,
        "outcome": "done",
        "reason": None,
        "message": "",
        "took_s": 0.2,
        "ask": "upgrade",
        "phase": "TRIAL",
        "rehearsal": {
            "workers": 4,
            "listeners": 1,
            "questions": 2,
            "alike": 2,
            "lines": 0,
            "alone": False,
            "notes": [],
            "why_not": None,
            "took_s": 0.7,
            "cpu_s": 0.13,
            "memory_kb": 9040,
            "disk_kb": 0,
        },
    }


def test_only_visits_with_a_preflight_tell_of_a_rehearsal(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--output", "jsonl")
    lines = [json.loads(line) for line in shell.out.splitlines()]
    assert {line["ask"] for line in lines if "rehearsal" in line} == {"stage", "upgrade"}

    shell("rollback", "-y", "--output", "jsonl")
    assert '"rehearsal"' not in shell.out


def test_the_log_file_has_every_event(shell: Shell, tmp_path: Path) -> None:
    log = tmp_path / "fleet.log"

    shell("upgrade", NEW, "-y", *QUICK, "--log-file", str(log))

    types = [json.loads(line)["type"] for line in log.read_text().splitlines()]
    assert types[0] == "rollout_started"
    assert types[-1] == "rollout_ended"
    assert types.count("step_ended") == len(shell.fleet.calls)


def test_a_log_file_that_can_t_be_written_is_refused_before_any_host_is_contacted(shell: Shell, tmp_path: Path) -> None:
    assert shell("upgrade", NEW, "-y", "--log-file", str(tmp_path / "nowhere" / "log")) == 2
    assert shell.fleet.calls == []
