"""The events that scripts read, each with one sentence and one example.

The examples are written by hand. Tests compare their keys with what the commands print.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from fleet.events import Event, EventType
from fleet.onhost.protocol import Outcome, Step
from fleet.reference.example_values import FOUND, NEW_SHA256, OPERATOR, REHEARSAL, ROLLOUT


class EventExample(NamedTuple):
    """An event type: when it is written, and an example."""

    meaning: str
    event: Event


def _event(second: float, type: EventType, message: str = "", **values: Any) -> Event:
    at = datetime(2026, 11, 23, 10, 12, tzinfo=UTC) + timedelta(seconds=second)
    return Event(at, ROLLOUT, type, message=message, **values)


EVENTS = {
    EventType.ROLLOUT_STARTED: EventExample(
        "The run starts. Holds everything needed to continue it: command, operator, release, policy, inventory, batches. "
        "`command_line` is the command as it was typed, without a password.",
        _event(
            0,
            EventType.ROLLOUT_STARTED,
            "commit " + ROLLOUT,
            data={
                "command": "commit",
                "operator": OPERATOR,
                "release": NEW_SHA256,
                "release_path": "/home/deploy/nginx",
                "release_bytes": 1421000,
                "release_version": "1.26.3",
                "policy": {"parallel": 50, "cut": False},
                "inventory": ["/home/deploy/hosts.yaml"],
                "limit": [],
                "controller": {"host": "desk", "pid": 4711},
                "batches": [["web-01"], ["web-02"]],
                "command_line": {
                    "command": "commit",
                    "arguments": [ROLLOUT],
                    "options": [["inventory", "-i", "hosts.yaml"]],
                    "limits": [],
                },
            },
        ),
    ),
    EventType.HOST_KNOWN: EventExample(
        "What an earlier run knows of a host, when a run continues from there. Only `phase` is for scripts.",
        _event(
            0,
            EventType.HOST_KNOWN,
            host="web-01",
            data={
                "course": "upgraded",
                "fault": None,
                "cause": None,
                "gave_up_on": None,
                "doubt": None,
                "remedy": "",
                "was_first": True,
                "proven": True,
                "phase": "TRIAL",
            },
        ),
    ),
    EventType.STAGE_STARTED: EventExample(
        "Staging and preflight start on all hosts.", _event(0, EventType.STAGE_STARTED, "preflight on 2 hosts")
    ),
    EventType.STAGE_ENDED: EventExample(
        "Every host passed preflight. `epoch` is the rollout's fencing number.",
        _event(3, EventType.STAGE_ENDED, "every host passed preflight", data={"epoch": 1}),
    ),
    EventType.BATCH_OPENED: EventExample(
        "A batch starts; `hosts` names its hosts.",
        _event(3, EventType.BATCH_OPENED, "batch 1 of 2: web-01", batch=1, data={"hosts": ["web-01"]}),
    ),
    EventType.BATCH_CLOSED: EventExample(
        "Every host of the batch was visited; the bake starts.",
        _event(9, EventType.BATCH_CLOSED, "batch 1: 1 of 1 host upgraded", batch=1),
    ),
    EventType.GATE_JUDGED: EventExample(
        "The gate's verdict on a batch: `passed`, `error` (a host could not be asked) or `failed`.",
        _event(39, EventType.GATE_JUDGED, "bake of batch 1: passed", batch=1, data={"verdict": "passed"}),
    ),
    EventType.COMMIT_STARTED: EventExample(
        "The held old masters are going to be retired.",
        _event(80, EventType.COMMIT_STARTED, "commit: the held old masters are retired"),
    ),
    EventType.ROLLBACK_STARTED: EventExample(
        "Hosts are going to be rolled back; `reason` says why.",
        _event(40, EventType.ROLLBACK_STARTED, "1 host failed (web-02), 0 allowed", reason="budget"),
    ),
    EventType.VISIT_STARTED: EventExample(
        "fleet sends a host one request; `ask` says which.",
        _event(3, EventType.VISIT_STARTED, host="web-01", batch=1, data={"ask": "upgrade"}),
    ),
    EventType.VISIT_ENDED: EventExample(
        "The request has ended. `outcome` is `done`, `refused`, `failed`, `link_lost` or `unreachable`; `phase` is the "
        "host's phase now, if it could be read; `rehearsal`, as in `fleet.check/1`, what the preflight of a `stage` or an "
        "`upgrade` rehearsed.",
        _event(
            9,
            EventType.VISIT_ENDED,
            host="web-01",
            batch=1,
            outcome=Outcome.DONE,
            took_s=5.812,
            data={"ask": "upgrade", "phase": "TRIAL", "rehearsal": REHEARSAL._asdict()},
        ),
    ),
    EventType.STEP_STARTED: EventExample(
        "A step starts on a host.", _event(4, EventType.STEP_STARTED, host="web-01", batch=1, step=Step.LAUNCH)
    ),
    EventType.STEP_ENDED: EventExample(
        "A step has ended.",
        _event(4.2, EventType.STEP_ENDED, host="web-01", batch=1, step=Step.LAUNCH, outcome=Outcome.DONE, took_s=0.21),
    ),
    EventType.FINDING: EventExample(
        "Preflight found something on a host. The reasons are listed in [reasons.md](reasons.md).",
        _event(
            2,
            EventType.FINDING,
            FOUND.message,
            host="web-02",
            batch=2,
            reason=FOUND.reason,
            data={"severity": "refusal", "remedy": FOUND.remedy, "overridable": False},
        ),
    ),
    EventType.NOTE: EventExample(
        "Something to know; `host` is null when it concerns the whole run.",
        _event(1, EventType.NOTE, "Waiting for web-02, which another run holds.", reason="lock_wait"),
    ),
    EventType.ROLLOUT_ENDED: EventExample(
        "The run has ended: always the last line. `result` is `completed`, `rolled_back`, `halted` or `interrupted`; "
        "`counts` has every host once.",
        _event(
            94.5,
            EventType.ROLLOUT_ENDED,
            "Completed: 2 hosts of 2 run the new release.",
            data={
                "result": "completed",
                "exit_code": 0,
                "counts": {
                    "hosts": 2,
                    "done": 2,
                    "failed": 0,
                    "refused": 0,
                    "unreachable": 0,
                    "unverified": 0,
                    "rolled_back": 0,
                    "begun": 0,
                    "not_begun": 0,
                    "left_alone": 0,
                },
            },
        ),
    ),
}
