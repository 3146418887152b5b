"""What scripts read: exit codes, JSON documents and events, each with one sentence and one example.

The examples are written by hand. Tests compare their keys with what the commands print.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from fleet.events import Event, EventType
from fleet.onhost.protocol import Outcome, Step
from fleet.onhost.reasons.catalogue import finding
from fleet.rollout import results

OLD_SHA256, NEW_SHA256 = "3f6c1d" + "0" * 58, "9a41be" + "0" * 58
ROLLOUT, OPERATOR = "20261123-1012-k7qd", "alice@desk"
FOUND = finding("daemon_off", pid=812, parent="init", ppid=1)

EXIT_CODES = {
    results.OK: "The state you asked for holds on every host. Also: there was nothing to do, or a rollback you asked for "
    "is complete.",
    1: "A bug in fleet.",
    results.REFUSED: "Refused, and this command changed no host: usage, inventory, release, preflight, or a host that "
    "could not be reached in preflight.",
    results.HALTED: "The rollout halted, or fleet rolled it back by itself. Every host serves.",
    results.PERSON: "A host needs a person: it could not be reached after it was changed, is DOWN or FOREIGN, or failed to "
    "go back. Takes precedence over 3. For `status` and `unlock`: a host did not answer.",
    results.HELD_BY_OTHERS: "Another rollout holds the journal or a host. Never for `rollback`.",
    results.INTERRUPTED: "You interrupted the command. The last line says what to type to continue.",
}


class Document(NamedTuple):
    """A JSON document: its schema, the command that prints it, what it holds, an example."""

    schema: str
    command: str
    meaning: str
    example: dict[str, Any]


class EventExample(NamedTuple):
    """An event type: when it is written, and an example."""

    meaning: str
    event: Event


_RUN = {
    "command": "upgrade",
    "began": "2026-11-23T10:12:00.000Z",
    "took_s": 94.512,
    "operator": OPERATOR,
    "hosts": 2,
    "result": "completed",
    "exit_code": 0,
    "stands": "ended",
    "message": "Completed: 2 hosts of 2 run the new release.",
}

DOCUMENTS = (
    Document(
        "fleet.status/1",
        "fleet status --json",
        "Every selected host, with its phase, its masters and the rollout it has a record of. For a host that did not "
        "answer, `error` holds a reason and a message, and the other facts are null. `running_sha256` is the release whose "
        "workers accept new connections; while both do, the newer one.",
        {
            "schema": "fleet.status/1",
            "hosts": [
                {
                    "name": "web-01",
                    "phase": "TRIAL",
                    "running_sha256": NEW_SHA256,
                    "running_version": "1.26.3",
                    "path_sha256": NEW_SHA256,
                    "held": True,
                    "masters": [
                        {
                            "pid": 812,
                            "sha256": OLD_SHA256,
                            "version": "1.26.2",
                            "is_old": True,
                            "workers": 0,
                            "draining": 1,
                        },
                        {
                            "pid": 990,
                            "sha256": NEW_SHA256,
                            "version": "1.26.3",
                            "is_old": False,
                            "workers": 4,
                            "draining": 0,
                        },
                    ],
                    "error": None,
                    "path": "/usr/sbin/nginx",
                    "path_version": "1.26.3",
                    "pid_file": "/run/nginx.pid",
                    "rollout": ROLLOUT,
                    "operator": OPERATOR,
                    "state": "begun",
                    "undo": "/var/lib/fleet/undo 4773da447e169795",
                    "drain_pending": False,
                    "start_command": None,
                    "orphans": [],
                    "unconfirmed": False,
                    "lease_left_s": 512.3,
                    "why": None,
                    "claim": {
                        "rollout": ROLLOUT,
                        "journal": "5c0e9f31",
                        "operator": OPERATOR,
                        "controller": "desk",
                        "pid": 4711,
                        "since": "2026-11-23T10:12:03+00:00",
                        "beat_at": "2026-11-23T10:13:01+00:00",
                        "boot_id": "96b4cae7-f416-44d9-915b-9b8b7532e343",
                        "until_s": 90211.5,
                    },
                }
            ],
        },
    ),
    Document(
        "fleet.check/1",
        "fleet check RELEASE --json",
        "Every selected host, with everything preflight found. With `--no-stage`, `can_be_upgraded` is false or null, "
        "because the release itself was not tried.",
        {
            "schema": "fleet.check/1",
            "hosts": [
                {
                    "name": "web-02",
                    "can_be_upgraded": False,
                    "reason": FOUND.reason,
                    "message": FOUND.message,
                    "findings": [
                        {
                            "reason": FOUND.reason,
                            "severity": "refusal",
                            "message": FOUND.message,
                            "remedy": FOUND.remedy,
                            "overridable": False,
                            "refuses": True,
                        }
                    ],
                }
            ],
        },
    ),
    Document(
        "fleet.inventory/1",
        "fleet inventory --json",
        "Every selected host, as the inventory describes it. `where` is the file and the line.",
        {
            "schema": "fleet.inventory/1",
            "hosts": [
                {
                    "name": "web-01",
                    "address": "192.0.2.1",
                    "port": 22,
                    "user": "deploy",
                    "groups": ["web"],
                    "labels": {"zone": "eu-1"},
                    "layout": {
                        "binary": None,
                        "pid_file": None,
                        "config": None,
                        "prefix": None,
                        "state_dir": "/var/lib/fleet",
                    },
                    "probes": [],
                    "where": "hosts.yaml:3",
                }
            ],
        },
    ),
    Document(
        "fleet.trust/1",
        "fleet trust --json",
        "One entry per host key, as it was found before any was stored. `state` is `known`, `unknown`, `refused` or "
        "`not_asked`. `hosts` is empty for a bastion; `bastion_before` then names the hosts behind it.",
        {
            "schema": "fleet.trust/1",
            "keys": [
                {
                    "hosts": ["web-01"],
                    "bastion_before": [],
                    "name": "192.0.2.1",
                    "state": "unknown",
                    "type": "ssh-ed25519",
                    "fingerprint": "SHA256:0000000000000000000000000000000000000000000",
                    "bits": 256,
                    "kind": "ED25519",
                    "reason": "host_key_unknown",
                    "message": "The host key is not known yet.",
                }
            ],
        },
    ),
    Document(
        "fleet.locks/1",
        "fleet unlock --json",
        "The run that holds the journal, and for each host the run at work there; null where there is none.",
        {
            "schema": "fleet.locks/1",
            "journal": {
                "name": "/home/deploy/.local/state/fleet/journal.db",
                "holder": {
                    "operator": OPERATOR,
                    "host": "desk",
                    "pid": 4711,
                    "command": "upgrade",
                    "rollout": ROLLOUT,
                    "since": "2026-11-23T10:12:00.000+00:00",
                    "heartbeat": "2026-11-23T10:13:01.000+00:00",
                    "expires": "2026-11-23T10:14:01.000+00:00",
                },
            },
            "hosts": [{"name": "web-01", "claim": None, "error": None}],
        },
    ),
    Document(
        "fleet.history/1",
        "fleet history --json",
        "The rollouts in the journal, the newest first, each with its runs: the upgrade, and every commit, rollback and "
        "resume.",
        {
            "schema": "fleet.history/1",
            "rollouts": [
                {
                    "rollout": ROLLOUT,
                    "began": "2026-11-23T10:12:00.000Z",
                    "operator": OPERATOR,
                    "release": NEW_SHA256,
                    "release_version": "1.26.3",
                    "hosts": 2,
                    "result": "completed",
                    "exit_code": 0,
                    "stands": "ended",
                    "runs": [_RUN],
                }
            ],
        },
    ),
    Document(
        "fleet.show/1",
        "fleet show ROLLOUT --json",
        "One rollout: its runs, each with all of its events as `fleet.event/1`.",
        {"schema": "fleet.show/1", "rollout": ROLLOUT, "runs": [{**_RUN, "events": []}]},
    ),
    Document(
        "fleet.lab/1",
        "fleet lab status --json",
        "The labs of this machine and their hosts.",
        {
            "schema": "fleet.lab/1",
            "labs": [
                {
                    "name": "lab",
                    "subnet": "10.83.0.0/22",
                    "owner_pid": None,
                    "inventory": "/var/lib/fleet-lab/lab/hosts.yaml",
                    "trouble": None,
                    "hosts": [
                        {
                            "name": "lab-001",
                            "address": "10.83.0.2",
                            "power": "on",
                            "kind": "plain",
                            "serves": True,
                            "has_ssh": True,
                        }
                    ],
                }
            ],
        },
    ),
)


def _event(second: float, type: EventType, message: str = "", **values: Any) -> Event:
    at = datetime(2026, 11, 23, 10, 12, tzinfo=UTC) + timedelta(seconds=second)
    return Event(at, ROLLOUT, type, message=message, **values)


EVENTS = {
    EventType.ROLLOUT_STARTED: EventExample(
        "The run starts. Holds everything needed to continue it: command, operator, release, policy, inventory, batches.",
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
        "host's phase now, if it could be read.",
        _event(
            9,
            EventType.VISIT_ENDED,
            host="web-01",
            batch=1,
            outcome=Outcome.DONE,
            took_s=5.812,
            data={"ask": "upgrade", "phase": "TRIAL"},
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
