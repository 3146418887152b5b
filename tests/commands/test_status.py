"""`fleet status`: the table and the document, whose keys are a promise."""

import json

from syrupy.assertion import SnapshotAssertion

from fleet.onhost.protocol import Ask
from tests.support.pretend.visits import NEW, UNREACHABLE
from tests.support.shell import QUICK, Shell

STATUS_KEYS = {"name", "phase", "running_sha256", "running_version", "path_sha256", "held", "masters", "error"}


MORE_STATUS_KEYS = set(
    """
    path path_version pid_file rollout operator state why undo drain_pending start_command orphans unconfirmed
    lease_left_s claim unit package watcher drain retirement committed_by
    """.split()
)


MASTER_KEYS = {"pid", "sha256", "version", "is_old", "workers", "draining"}


def test_the_keys_of_the_status_document_are_a_promise(shell: Shell) -> None:
    shell.fleet.outcomes["web-04", Ask.LOOK].append(UNREACHABLE)

    code = shell("status", "--json")

    document = json.loads(shell.out)
    assert code == 4
    assert set(document) == {"schema", "hosts"}
    assert document["schema"] == "fleet.status/1"
    for host in document["hosts"]:
        assert set(host) == STATUS_KEYS | MORE_STATUS_KEYS
        assert all(set(master) == MASTER_KEYS for master in host["masters"])
    silent = document["hosts"][3]
    assert silent["phase"] is None
    assert silent["error"] == {"reason": "timeout", "message": "No answer within 10 s. See whether it is up."}
    assert document["hosts"][0]["error"] is None


def test_status_shows_held_hosts(shell: Shell, snapshot: SnapshotAssertion) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never", "--limit", "web-01:web-02")

    assert shell("status") == 0
    assert shell.out == snapshot


def test_status_only_looks_and_claims_no_host(shell: Shell) -> None:
    shell("status")

    assert {task.request.ask for task in shell.fleet.tasks} == {Ask.LOOK}
    assert {task.request.allowed for task in shell.fleet.tasks} == {()}
    assert {task.request.epoch for task in shell.fleet.tasks} == {0}


def test_a_look_alone_keeps_no_connection(shell: Shell) -> None:
    assert shell("status") == 0

    assert {task.connecting.keep_open for task in shell.fleet.tasks} == {0}


def test_a_rollback_keeps_those_of_its_look(shell: Shell) -> None:
    shell("rollback", "-y", "--keep-open", "3")

    assert {task.connecting.keep_open for task in shell.fleet.tasks} == {3}
