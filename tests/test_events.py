"""Events as text: the promise to readers, and the journal's own form, which loses nothing."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.events import Event, EventType, dump, load
from fleet.onhost.protocol import Ask, Claim, Outcome, Phase, Probe, Record, Report, State, Step
from fleet.onhost.views import (
    DrainView,
    MasterView,
    PackageView,
    RehearsalSummary,
    RetirementView,
    UnitView,
    WatcherView,
)
from fleet.onhost.wire import Malformed
from fleet.rollout.policy import CommitWhen, OnFailure, Policy
from tests.support.pretend.visits import AT, LOST_AFTER, WENT_BACK, a_fleet
from tests.support.rollout.playing import play

WORDS = st.text(max_size=20)
SHA = st.none() | st.text("0123456789abcdef", min_size=64, max_size=64)
PIDS = st.integers(0, 2**22)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
PROBES = st.builds(Probe, WORDS, st.integers(100, 599), timeout_s=st.floats(0, 60))
RECORDS = st.builds(
    Record,
    *[WORDS, st.integers(0, 99), WORDS, WORDS, WORDS, WORDS, WORDS, st.sampled_from(State)],
    poisoned=st.none() | st.tuples(PIDS, PIDS),
    allow=st.lists(WORDS, max_size=2).map(tuple),
    uncounted=st.lists(PROBES, max_size=2).map(tuple),
)
SPANS = st.floats(0, 1e9)
MASTERS = st.builds(MasterView, PIDS, SHA, st.none() | WORDS, st.booleans(), st.integers(0, 64), st.integers(0, 64))
REHEARSALS = st.builds(
    RehearsalSummary,
    *[st.integers(0, 999)] * 5,
    st.booleans(),
    st.lists(WORDS, max_size=2).map(tuple),
    st.none() | WORDS,
    st.floats(0, 1e9),
    st.floats(0, 1e9),
    PIDS,
    PIDS,
)
REPORTS = st.builds(
    Report,
    phase=st.sampled_from(Phase),
    masters=st.lists(MASTERS, max_size=2).map(tuple),
    running_sha256=SHA,
    running_version=st.none() | WORDS,
    path=st.none() | WORDS,
    path_sha256=SHA,
    held=st.booleans(),
    record=st.none() | RECORDS,
    epoch=st.integers(0, 99),
    orphans=st.lists(PIDS, max_size=2).map(tuple),
    previous=st.none() | RECORDS,
    claim=st.none() | st.builds(Claim, pid=PIDS, until_s=st.floats(0, 1e9)),
    lease_left_s=st.none() | st.floats(0, 1e9),
    rehearsal=st.none() | REHEARSALS,
    unit=st.none() | st.builds(UnitView, WORDS, PIDS, WORDS, st.booleans(), st.none() | WORDS),
    package=st.none() | st.builds(PackageView, WORDS, WORDS, st.none() | st.booleans(), st.booleans()),
    watcher=st.none() | st.builds(WatcherView, st.booleans(), WORDS),
    drain=st.none()
    | st.builds(DrainView, PIDS, PIDS, st.none() | SPANS, st.lists(st.tuples(SPANS, PIDS), max_size=2).map(tuple)),
    retirement=st.none() | st.builds(RetirementView, SPANS, st.booleans()),
    committed_by=WORDS,
)
EVENTS = st.builds(
    Event,
    at=st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=2))]), min_value=datetime(2000, 1, 1)),
    rollout=WORDS,
    type=st.sampled_from(EventType),
    host=st.none() | WORDS,
    batch=st.none() | st.integers(1, 99),
    step=st.none() | st.sampled_from(Step),
    outcome=st.none() | st.sampled_from(Outcome),
    reason=st.none() | WORDS,
    message=st.text(st.characters()),
    took_s=st.none() | st.floats(0, 1e6),
    report=st.none() | REPORTS,
    data=st.dictionaries(WORDS, JSON, max_size=4),
)


@given(EVENTS)
def test_the_journal_s_form_keeps_the_whole_event(event: Event) -> None:
    text = dump(event)

    assert load(text) == event
    assert text.isascii()
    assert "\n" not in text
    assert dump(load(text)) == text


def test_every_event_of_a_rollout_is_loaded_as_it_was() -> None:
    fleet = a_fleet(6)
    fleet.outcomes["web-02", Ask.UPGRADE].append(LOST_AFTER)
    fleet.outcomes["web-04", Ask.UPGRADE].append(WENT_BACK)

    _, game = play(fleet, Policy(bake_s=0.0))

    assert [load(dump(event)) for event in game.events] == game.events


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"at": 1}', dump(Event(AT, "r", EventType.NOTE)).replace("note", "x")]
)
def test_a_text_that_is_not_an_event_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        load(text)


def test_the_form_for_readers_leaves_the_report_out_and_rounds() -> None:
    event = Event(AT + timedelta(microseconds=1), "r", EventType.STEP_ENDED, step=Step.SWAP, took_s=0.12345)

    told = json.loads(event.to_json())

    assert (told["at"], told["took_s"]) == ("2026-11-23T10:00:00.000Z", 0.123)
    assert "report" not in told


@given(
    st.builds(
        Policy,
        bake_s=st.floats(0, 1e6),
        max_failures=st.integers(0, 999),
        on_failure=st.sampled_from(OnFailure),
        commit=st.sampled_from(CommitWhen),
        cut=st.booleans(),
        allow=st.lists(WORDS, max_size=3).map(tuple),
    )
)
def test_a_policy_survives_the_round_trip_through_json(policy: Policy) -> None:
    assert Policy.from_plain(json.loads(json.dumps(policy.to_plain()))) == policy


def test_a_policy_of_an_older_fleet_gets_defaults_for_what_it_lacks() -> None:
    assert Policy.from_plain({"bake_s": 5, "unknown": 1}) == Policy(bake_s=5.0)
