"""What a visit tells of the rehearsal of its preflight."""

from typing import Any

import pytest

from fleet.onhost.preflight.result import summary
from fleet.onhost.protocol import MAY_DO, PROTOCOL, Ask, Goal, Options, Outcome, Request, Rest
from tests.support.onhost.kept import KeptInMemory
from tests.support.pretend.host import NEW, OLD, REHEARSAL, Pretend


def a_request(ask: Ask, target: str = NEW, rehearse: bool = True) -> Request:
    goal, options = Goal(target, Rest.HELD), Options(settle_s=0.0, rehearse=rehearse)
    return Request(PROTOCOL, ask, "r1", 1, "ada", goal, MAY_DO[ask], options=options)


def noted(host: Pretend) -> list[dict[str, Any]]:
    """What the host's journal says of rehearsals."""
    assert isinstance(host.own, KeptInMemory)
    return [one for one in host.own.entries if "rehearsal" in one]


@pytest.fixture
def host() -> Pretend:
    return Pretend("web-01")


@pytest.mark.parametrize("ask", [Ask.STAGE, Ask.UPGRADE])
def test_the_rehearsal_is_in_the_report_and_in_the_journal(ask: Ask, host: Pretend) -> None:
    end = host.answer(a_request(ask))

    assert (end.outcome, end.rehearsal) == (Outcome.DONE, summary(REHEARSAL))
    assert noted(host) == [{"rehearsal": summary(REHEARSAL)._asdict(), "rollout": "r1"}]


def test_the_rehearsal_of_a_refused_release_is_in_the_report_too(host: Pretend) -> None:
    host.model = host.model.put("c" * 64)

    end = host.answer(a_request(Ask.UPGRADE))

    assert (end.outcome, end.reason, end.rehearsal) == (Outcome.REFUSED, "path_differs", summary(REHEARSAL))


def test_without_a_rehearsal_nothing_is_told_of_one(host: Pretend) -> None:
    end = host.answer(a_request(Ask.STAGE, rehearse=False))

    assert (end.outcome, end.rehearsal) == (Outcome.DONE, None)
    assert noted(host) == []


def test_a_host_that_runs_the_release_has_nothing_to_rehearse(host: Pretend) -> None:
    assert host.answer(a_request(Ask.STAGE, OLD)).rehearsal is None


def test_an_upgrade_that_goes_on_where_it_was_left_tells_of_no_rehearsal(host: Pretend) -> None:
    host.answer(a_request(Ask.UPGRADE))

    assert host.answer(a_request(Ask.UPGRADE)).rehearsal is None
