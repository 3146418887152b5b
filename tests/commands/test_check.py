"""`fleet check`: the findings of every host, for people and as a document."""

import json

import pytest
from syrupy.assertion import SnapshotAssertion

from fleet.onhost.preflight.result import summary
from fleet.onhost.protocol import Ask
from fleet.onhost.rehearsal.evidence import Rehearsal
from tests.support.pretend.host import REHEARSAL
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


def test_the_document_has_what_each_host_rehearsed(shell: Shell) -> None:
    assert shell("check", NEW, "--json") == 0

    found = [host["rehearsal"] for host in json.loads(shell.out)["hosts"]]
    assert found == [json.loads(json.dumps(summary(REHEARSAL)._asdict()))] * 4


def test_without_a_rehearsal_the_document_has_none(shell: Shell) -> None:
    assert shell("check", NEW, "--rehearse", "off", "--json") == 0

    assert {host["rehearsal"] for host in json.loads(shell.out)["hosts"]} == {None}


def test_a_rehearsal_that_a_host_could_not_have_is_shown_with_its_cause(shell: Shell) -> None:
    shell.fleet.hosts["web-03"].rehearsal = Rehearsal(why_not="The master runs in a user namespace.")

    assert shell("check", NEW) == 0

    assert "web-03  not rehearsed  The master runs in a user namespace." in shell.out
    assert shell.out.count("  rehearsed  ") == 3


@pytest.mark.parametrize(("value", "code"), [("auto", 0), ("off", 0), ("on", 2), ("", 0), ("never", 2)])
def test_the_environment_can_switch_the_rehearsal_off(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, value: str, code: int
) -> None:
    monkeypatch.setenv("FLEET_REHEARSE", value)

    assert shell("check", NEW) == code
    assert {task.request.options.rehearse for task in shell.fleet.tasks} == (set() if code else {value != "off"})
