"""The JSON documents that scripts read, each with one sentence and one example.

The examples are written by hand. Tests compare their keys with what the commands print.
"""

from typing import Any, NamedTuple

from fleet.reference.example_values import FOUND, NEW_SHA256, OLD_SHA256, OPERATOR, REHEARSAL, ROLLOUT


class Document(NamedTuple):
    """A JSON document: its schema, the command that prints it, what it holds, an example."""

    schema: str
    command: str
    meaning: str
    example: dict[str, Any]


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
                    "unit": {
                        "name": "nginx.service",
                        "main_pid": 812,
                        "active": "active",
                        "follows": True,
                        "guard": "/run/systemd/system/nginx.service.d/zz-fleet.conf",
                    },
                    "package": {"name": "nginx", "version": "1.26.2-1", "is_its_file": False, "on_hold": False},
                    "watcher": {"is_alive": True, "seen_at": "2026-11-23T10:13:02.118Z"},
                    "drain": None,
                    "retirement": None,
                    "committed_by": None,
                }
            ],
        },
    ),
    Document(
        "fleet.check/1",
        "fleet check RELEASE --json",
        "Every selected host, with everything preflight found. With `--no-stage`, `can_be_upgraded` is false or null, "
        "because the release itself was not tried. `rehearsal` is what the rehearsal of the upgrade showed, null where there "
        "was none; `why_not` says why there is none where one was asked for. Its `lines` are log lines of the new release "
        "at `crit` and above that the running one does not write; `alike` are the questions that the running release answered "
        "in the same way.",
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
                    "rehearsal": REHEARSAL._asdict(),
                }
            ],
        },
    ),
    Document(
        "fleet.inventory/1",
        "fleet inventory --json",
        "Every selected host, as the inventory describes it. `where` is the file and the line. `unrendered` names the labels "
        "whose text is a Jinja template, or stands for a secret in vault: only Ansible knows their values.",
        {
            "schema": "fleet.inventory/1",
            "hosts": [
                {
                    "name": "web-01",
                    "address": "192.0.2.1",
                    "port": 22,
                    "user": "deploy",
                    "groups": ["web"],
                    "ssh_arguments": ["-oProxyJump=ops@bastion.example.net"],
                    "labels": {"zone": "eu-1"},
                    "unrendered": [],
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
        "One rollout: its own hosts, and its runs, each with all of its events as `fleet.event/1`.",
        {"schema": "fleet.show/1", "rollout": ROLLOUT, "hosts": ["web-01"], "runs": [{**_RUN, "events": []}]},
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
