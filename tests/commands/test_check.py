"""`fleet check`: the findings of every host, for people and as a document."""

import json

from syrupy.assertion import SnapshotAssertion

from fleet.onhost.protocol import Ask
from tests.support.pretend.visits import NEW, REFUSED
from tests.support.shell import Shell


def test_check_lists_the_findings_of_every_host(shell: Shell, snapshot: SnapshotAssertion) -> None:
    shell.fleet.outcomes["web-02", Ask.STAGE].append(REFUSED)

    assert shell("check", NEW, "--parallel", "1") == 2
    assert shell.out == snapshot


def test_check_without_staging_requests_no_step(shell: Shell) -> None:
    assert shell("check", NEW, "--no-stage") == 0

    assert "can be upgraded" not in shell.out + shell.err
    assert "OLD" not in shell.err
    assert "Preflight passed on 4 hosts; the release was not staged" in shell.err
    assert {task.request.allowed for task in shell.fleet.tasks} == {()}
    assert {task.release_path for task in shell.fleet.tasks} == {None}


def test_check_as_a_json_document(shell: Shell) -> None:
    shell.fleet.outcomes["web-02", Ask.STAGE].append(REFUSED)

    assert shell("check", NEW, "--json") == 2

    document = json.loads(shell.out)
    assert document["schema"] == "fleet.check/1"
    assert [host["can_be_upgraded"] for host in document["hosts"]] == [True, False, True, True]


def test_without_staging_the_document_leaves_open_whether_a_host_can_be_upgraded(shell: Shell) -> None:
    assert shell("check", NEW, "--no-stage", "--json") == 0

    assert {host["can_be_upgraded"] for host in json.loads(shell.out)["hosts"]} == {None}
