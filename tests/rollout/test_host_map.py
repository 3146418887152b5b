"""The map of hosts: it answers as asking every host would, keeps every older version, and asks few hosts again."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.onhost.protocol import Ask
from fleet.rollout.host_map import HostMap
from fleet.rollout.host_status import HostStatus, RunningVisit, has_fault, is_running
from tests.support.pretend.visits import AT


def hosts(count: int) -> list[HostStatus]:
    return [HostStatus(f"web-{number:05}") for number in range(count)]


def since(host: HostStatus) -> object:
    return host.running.started_at if host.running else None


def running(host: HostStatus, seconds: int | None) -> HostStatus:
    visit = None if seconds is None else RunningVisit(Ask.LOOK, AT + timedelta(seconds=seconds))
    return replace(host, running=visit)


@given(
    st.integers(0, 300),
    st.lists(st.tuples(st.integers(0, 299), st.one_of(st.none(), st.integers(0, 9))), max_size=40),
    st.integers(-1, 10),
)
def test_it_answers_as_asking_every_host_would(count: int, changes: list[tuple[int, int | None]], seconds: int) -> None:
    started, plain = HostMap(hosts(count)), {host.name: host for host in hosts(count)}
    found, now = started, AT + timedelta(seconds=seconds)
    for number, at in changes:
        if number < count:
            changed = running(hosts(count)[number], at)
            plain[changed.name], found = changed, found.having(changed)
            assert found.count(is_running) == sum(map(is_running, plain.values()))

    times = [host.running.started_at for host in plain.values() if host.running]
    assert found == plain
    assert found.all() == tuple(plain.values())
    assert list(found.where(is_running)) == list(filter(is_running, plain.values()))
    assert found.earliest(since) == min(times, default=None)  # type: ignore[arg-type]
    due = [host for host in plain.values() if host.running and host.running.started_at <= now]
    assert list(found.due(since, now)) == due  # type: ignore[arg-type]
    assert started.all() == tuple(hosts(count))
    assert started.count(is_running) == 0


def test_hosts_that_a_question_chooses_are_changed_in_a_new_map() -> None:
    before = HostMap(running(host, 1 if host.name.endswith("7") else None) for host in hosts(40))

    after = before.changed(is_running, lambda host: running(host, None))

    assert (before.count(is_running), after.count(is_running)) == (4, 0)


def test_a_host_that_the_map_does_not_have_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        HostMap(hosts(3))["web-99999"]


def test_after_one_change_few_hosts_are_asked_again_however_many_there_are() -> None:
    asked: list[str] = []

    def question(host: HostStatus) -> bool:
        asked.append(host.name)
        return has_fault(host)

    found = HostMap(hosts(5000))
    found.count(question)
    asked.clear()

    assert found.having(running(found["web-02500"], 1)).count(question) == 0
    assert len(asked) == 16
