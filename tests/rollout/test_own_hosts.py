"""Which hosts belong to a rollout: the plan in the journal, the hosts' own records, and what a silent host may be."""

from dataclasses import replace
from typing import Any

import pytest

from fleet.events import Event, EventType
from fleet.onhost.protocol import Ask, Phase, Report, State
from fleet.onhost.views import MasterView
from fleet.rollout.host_status import HostStatus
from fleet.rollout.own_hosts import NOT_JOURNALED, JournaledHosts, OwnHosts, hosts_of_run, journaled_hosts, own_hosts
from fleet.rollout.rollout_status import RolloutStatus
from tests.support.pretend.visits import AT, NEW, OLD
from tests.support.rollout.from_hosts import a_record

R, OTHER = "20261123-1000-test", "20261123-0900-else"
PLAN = ("web-01", "web-02")
WHOLE = JournaledHosts(PLAN, is_whole=True, epoch=3, nginx={"web-01": ("machine 1", "nginx")})


def a_report(rollout: str | None = R, **values: Any) -> Report:
    record = a_record(rollout, "2026-11-23T10:00:00.000Z") if rollout else None
    report = Report(Phase.TRIAL, (), NEW, None, None, OLD, True, record, 3, epoch_of=rollout or "")
    return report._replace(**values)


def a_look(**reports: Report | None) -> RolloutStatus:
    """A look at hosts; `web_01` is web-01."""
    hosts = {name.replace("_", "-"): report for name, report in reports.items()}
    return RolloutStatus("look", {name: HostStatus(name, report=report) for name, report in hosts.items()})


def found(journaled: JournaledHosts, **reports: Report | None) -> OwnHosts:
    return own_hosts(a_look(**reports), R, journaled)


# With the plan


def test_a_silent_host_that_is_not_in_the_plan_was_never_in_the_rollout() -> None:
    own = found(WHOLE, web_01=a_report(), web_02=a_report(), web_03=None)

    assert (own.members, own.silent, own.doubtful) == (PLAN, ("web-03",), ())
    assert own.is_whole


@pytest.mark.parametrize("rollout", [None, OTHER])
def test_a_host_that_answers_and_is_not_in_the_plan_is_outside(rollout: str | None) -> None:
    own = found(WHOLE, web_01=a_report(), web_03=a_report(rollout))

    assert (own.members, own.outside) == (("web-01",), ("web-03",))


def test_a_host_of_the_plan_belongs_to_the_rollout_whatever_it_answers() -> None:
    own = found(WHOLE, web_01=None, web_02=a_report(None))

    assert own.members == PLAN
    assert own.never_begun == frozenset()


def test_a_silent_host_of_the_plan_that_was_never_begun_needs_nothing() -> None:
    own = found(replace(WHOLE, never_begun=frozenset(PLAN)), web_01=a_report(None), web_02=None)

    assert own.members == PLAN
    assert own.never_begun == {"web-02"}


def test_a_host_of_the_plan_that_was_not_looked_at_is_named_with_its_last_state() -> None:
    own = found(replace(WHOLE, states={"web-02": State.COMMITTED}), web_01=a_report())

    assert own.elsewhere == {"web-02": State.COMMITTED}


def test_a_host_that_was_never_begun_is_not_missed() -> None:
    assert found(replace(WHOLE, never_begun=frozenset({"web-02"})), web_01=a_report()).elsewhere == {}


# With another journal's runs


def test_a_host_that_another_journal_added_says_so_itself() -> None:
    own = found(WHOLE, web_01=a_report(), web_03=a_report(), web_04=None)

    assert own.added == ("web-03",)
    assert own.doubtful == ("web-04",), "it may have been added, too"
    assert (own.is_whole, own.is_journaled) == (False, True)


def test_a_higher_epoch_shows_a_run_of_another_journal() -> None:
    own = found(replace(WHOLE, never_begun=frozenset({"web-02"})), web_01=a_report(epoch=4), web_02=None, web_03=None)

    assert own.doubtful == ("web-03",)
    assert own.never_begun == frozenset(), "that run may have begun it"


@pytest.mark.parametrize("values", [{"undone": (R,)}, {"epoch_of": OTHER}, {"epoch": 3}])
def test_a_rollback_or_another_rollout_raises_the_epoch_and_adds_no_host(values: dict[str, Any]) -> None:
    own = found(WHOLE, web_01=a_report(**{"epoch": 4, **values}), web_03=None)

    assert (own.silent, own.doubtful) == (("web-03",), ())


# Without the plan


def test_without_the_plan_the_records_name_the_hosts_and_a_silent_host_may_be_one() -> None:
    own = found(NOT_JOURNALED, web_01=a_report(), web_02=a_report(OTHER), web_03=None)

    assert own.members == ("web-01", "web-03")
    assert (own.doubtful, own.outside) == (("web-03",), ("web-02",))


def test_a_rollout_below_a_later_one_is_in_the_record_before() -> None:
    previous = a_record(R, "2026-11-23T10:00:00.000Z")

    assert found(NOT_JOURNALED, web_01=a_report(OTHER, previous=previous)).members == ("web-01",)


def test_a_journal_that_continued_a_rollout_knows_some_of_its_hosts() -> None:
    own = found(JournaledHosts(("web-01",), never_begun=frozenset({"web-01"})), web_01=None, web_02=None)

    assert own.members == PLAN
    assert own.doubtful == ("web-02",)
    assert own.never_begun == frozenset(), "another journal may have begun it"


# One nginx with two names

MASTER = MasterView(812, NEW, None, False, 1, 0)


def on(machine: str, pid: int = 812) -> Report:
    return a_report(machine_id=machine, instance="nginx", masters=(MASTER._replace(pid=pid),))


def test_a_second_name_of_a_member_is_left_out() -> None:
    own = found(WHOLE, alias=on("machine 1"), web_01=on("machine 1"))

    assert (own.members, own.doubles) == (("web-01",), (("alias", "web-01"),))
    assert own.is_whole


def test_without_the_plan_the_first_name_counts() -> None:
    assert found(NOT_JOURNALED, alias=on("machine 1"), web_01=on("machine 1")).members == ("alias",)


def test_cloned_machines_with_one_id_are_two_hosts() -> None:
    own = found(NOT_JOURNALED, web_01=on("machine 1"), web_02=on("machine 1", pid=900))

    assert own.members == PLAN


def test_a_host_of_the_plan_with_a_new_name_is_not_missed() -> None:
    own = found(WHOLE, web_02=a_report(), renamed=on("machine 1"))

    assert own.members == ("web-02", "renamed")
    assert own.elsewhere == {}
    assert own.is_whole


# What the journal tells


def started(command: str, *batches: tuple[str, ...]) -> Event:
    data = {"command": command, "batches": [list(batch) for batch in batches]}
    return Event(AT, R, EventType.ROLLOUT_STARTED, data=data)


def visit(host: str, ask: Ask, report: Report | None = None, ends: bool = True) -> list[Event]:
    data = {"ask": ask.value}
    begins = Event(AT, R, EventType.VISIT_STARTED, host=host, data=data)
    return [begins, Event(AT, R, EventType.VISIT_ENDED, host=host, report=report, data=data)][: 1 + ends]


BEGUN = [started("upgrade", ("web-01",), ("web-02",)), *visit("web-01", Ask.UPGRADE, a_report())]


def test_the_plan_is_that_of_every_run_that_goes_forward() -> None:
    events = [
        started("upgrade", ("web-01",)),
        started("rollback", ("web-09",)),
        started("resume", ("web-01", "web-02")),
    ]

    known = journaled_hosts(R, events)

    assert known.planned == PLAN
    assert known.is_whole


@pytest.mark.parametrize("command", ["resume", "commit", "rollback"])
def test_a_journal_in_which_the_rollout_did_not_begin_has_not_the_whole_plan(command: str) -> None:
    assert not journaled_hosts(R, [started(command, PLAN)]).is_whole


def test_a_host_without_the_start_of_a_visit_that_moves_it_was_never_begun() -> None:
    events = [*BEGUN, *visit("web-02", Ask.STAGE, a_report(None)), *visit("web-02", Ask.LOOK)]

    assert journaled_hosts(R, events).never_begun == {"web-02"}
    assert journaled_hosts(R, events, is_running=True).never_begun == frozenset(), "it may be begun at this moment"


@pytest.mark.parametrize("ask", [Ask.UPGRADE, Ask.BAKE, Ask.COMMIT, Ask.ROLLBACK])
def test_a_visit_that_has_no_end_may_have_begun_its_host(ask: Ask) -> None:
    assert journaled_hosts(R, [*BEGUN, *visit("web-02", ask, ends=False)]).never_begun == frozenset()


def test_a_host_whose_record_names_the_rollout_was_begun() -> None:
    known = Event(AT, R, EventType.HOST_KNOWN, host="web-02", report=a_report())

    assert journaled_hosts(R, [*BEGUN, known]).never_begun == frozenset()


def test_the_last_state_of_a_host_is_that_of_its_last_answer() -> None:
    assert journaled_hosts(R, BEGUN).states == {"web-01": State.BEGUN}
    assert journaled_hosts(R, [*BEGUN, *visit("web-01", Ask.COMMIT, ends=False)]).states == {}
    committed = a_report(record=a_record(R, "", State.COMMITTED))
    assert journaled_hosts(R, [*BEGUN, *visit("web-01", Ask.COMMIT, committed)]).states == {"web-01": State.COMMITTED}


def test_the_epoch_is_the_highest_that_a_run_gave_or_met() -> None:
    staged = Event(AT, R, EventType.STAGE_ENDED, data={"epoch": 7})

    assert journaled_hosts(R, BEGUN).epoch == 3
    assert journaled_hosts(R, [*BEGUN, staged]).epoch == 7


def test_a_run_of_an_older_fleet_is_shown_without_hosts_that_were_never_in_the_rollout() -> None:
    run = replace(a_look(web_01=a_report(), web_02=None, web_09=None, web_10=a_report(None)), rollout=R)

    assert list(hosts_of_run(run, WHOLE)) == ["web-01", "web-02"]
    assert list(hosts_of_run(run, NOT_JOURNALED)) == ["web-01", "web-02", "web-09", "web-10"]
