"""Every row of the table of phases (docs/procedure.md), on observations of real nginx."""

import pytest

from fleet.onhost.procedure import Way, classify, way
from fleet.onhost.protocol import Phase
from tests.support.onhost.phase_fixtures import load, names


@pytest.mark.parametrize("name", names())
def test_a_recorded_look_is_the_phase_it_was_recorded_in(name: str) -> None:
    seen, phase = load(name)

    assert classify(seen, "new").value == phase


def test_every_phase_is_recorded() -> None:
    assert {load(name)[1] for name in names()} == {phase.value for phase in Phase}


@pytest.mark.parametrize("name", ["overlap", "trial", "retiring", "dismissing", "stranded"])
def test_two_masters_look_the_same_from_the_release_before_but_the_way_is_back(name: str) -> None:
    seen, phase = load(name)

    assert classify(seen, "old").value == phase
    assert (way(seen, "new"), way(seen, "old")) == (Way.FORWARD, Way.BACK)
