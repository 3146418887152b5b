"""Check and status: each host is visited once, and how the run ends."""

from functools import partial

from fleet.onhost.protocol import Ask
from fleet.rollout.single_visit import decide_single_visit
from tests.support.pretend.visits import REFUSED, UNREACHABLE, a_fleet
from tests.support.rollout.from_hosts import PARALLEL, QUICK
from tests.support.rollout.playing import a_play


def test_a_look_at_a_host_that_does_not_answer_ends_with_4() -> None:
    fleet = a_fleet(3)
    fleet.outcomes["web-02", Ask.LOOK].append(UNREACHABLE)
    game = a_play(fleet, QUICK)

    end = game.to_the_end(partial(decide_single_visit, Ask.LOOK, PARALLEL))

    assert end.exit_code == 4
    assert "web-02" in end.message


def test_a_check_names_all_hosts_that_refuse() -> None:
    fleet = a_fleet(3)
    fleet.outcomes["web-01", Ask.STAGE].append(REFUSED)
    fleet.outcomes["web-03", Ask.STAGE].append(REFUSED)
    game = a_play(fleet, QUICK)

    end = game.to_the_end(partial(decide_single_visit, Ask.STAGE, PARALLEL))

    assert end.exit_code == 2
    assert "web-01, web-03" in end.message
