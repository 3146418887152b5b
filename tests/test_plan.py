"""How hosts are cut into batches, and what the operator's numbers mean."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import Refused
from fleet.host import Host
from fleet.onhost.protocol import Layout
from fleet.plan import budget_in_words, make_plan, parse_budget

counts = st.integers(1, 300).map(str)
percents = st.integers(1, 100).map("{}%".format)
sizes = st.lists(counts | percents, min_size=1, max_size=6).map(",".join)


def hosts(count: int) -> tuple[Host, ...]:
    return tuple(Host(name=f"web-{number:03}", address=f"192.0.2.{number}") for number in range(count))


def lengths(count: int, batches: str) -> list[int]:
    return [len(batch.hosts) for batch in make_plan(hosts(count), batches).batches]


@pytest.mark.parametrize(
    ("count", "batches", "expected"),
    [
        (1, "1,10%,50%,100%", [1]),
        (6, "1,10%,50%,100%", [1, 1, 3, 1]),
        (20, "1,10%,50%,100%", [1, 2, 10, 7]),
        (200, "1,10%,50%,100%", [1, 20, 100, 79]),
        (6, "1,2,3", [1, 2, 3]),
        (7, "2", [2, 2, 2, 1]),
        (9, "1, 2", [1, 2, 2, 2, 2]),
        (9, "10%", [1] * 9),
        (9, "33%", [2, 2, 2, 2, 1]),
        (3, "100", [3]),
        (40, "2.5%,100%", [1, 39]),
    ],
)
def test_sizes_are_those_of_ansibles_serial(count: int, batches: str, expected: list[int]) -> None:
    assert lengths(count, batches) == expected


def test_the_first_batch_of_the_default_is_one_canary() -> None:
    plan = make_plan(hosts(200))

    assert plan.sizes == "1,10%,50%,100%"
    assert [len(batch.hosts) for batch in plan.batches] == [1, 20, 100, 79]


@given(count=st.integers(1, 400), batches=sizes)
def test_every_host_is_in_exactly_one_batch_in_order(count: int, batches: str) -> None:
    planned = hosts(count)

    plan = make_plan(planned, batches)

    assert plan.hosts == planned
    assert [batch.number for batch in plan.batches] == list(range(1, len(plan.batches) + 1))
    assert all(batch.hosts for batch in plan.batches)
    assert all(plan.batch_of(host.name) == batch.number for batch in plan.batches for host in batch.hosts)


@given(count=st.integers(1, 400), batches=sizes)
def test_every_batch_but_the_last_has_the_size_given(count: int, batches: str) -> None:
    words = batches.split(",")
    found = lengths(count, batches)

    assert sum(found) == count
    for number, length in enumerate(found):
        word = words[min(number, len(words) - 1)]
        said = count * int(word[:-1]) // 100 if word.endswith("%") else int(word)
        if number < len(found) - 1:
            assert length == max(said, 1)
        else:
            assert length <= max(said, 1)


@pytest.mark.parametrize("batches", ["", "0", "0%", "101%", "-1", "1,,2", "x", "1;2", "1.5", "10 %x", "٣", "1e3", "%"])
def test_invalid_sizes_are_refused_with_what_is_allowed(batches: str) -> None:
    with pytest.raises(Refused, match=r"--batches .* is not a valid list of sizes.*1,10%,50%,100%"):
        make_plan(hosts(3), batches)


def test_a_plan_without_hosts_is_refused() -> None:
    with pytest.raises(Refused, match="The plan has no hosts"):
        make_plan(())


def test_one_nginx_under_two_names_is_refused_with_both_lines() -> None:
    layout = Layout(pid_file="/run/nginx.pid")
    twins = (
        Host(name="a", address="Web.example.net", layout=layout, where="hosts.yaml:3"),
        Host(name="b", address="web.example.net", layout=layout, where="hosts.yaml:4"),
    )

    with pytest.raises(Refused) as refused:
        make_plan(twins)

    assert str(refused.value) == (
        "a (hosts.yaml:3) and b (hosts.yaml:4) are the same nginx: web.example.net port 22 with the pid file "
        "/run/nginx.pid. Set nginx_pid_file for each of them, or leave one out: `fleet upgrade RELEASE -l '!b'`."
    )


def test_two_instances_on_one_host_are_two_hosts_of_the_plan() -> None:
    first = Host(name="a", address="192.0.2.1", layout=Layout(pid_file="/run/a.pid"))
    second = Host(name="b", address="192.0.2.1", layout=Layout(pid_file="/run/b.pid"))

    assert make_plan((first, second)).hosts == (first, second)


def test_a_name_twice_is_refused() -> None:
    with pytest.raises(Refused, match="web-000 is in the plan twice"):
        make_plan(hosts(1) * 2)


@pytest.mark.parametrize(
    ("text", "count", "budget"),
    [("0", 20, 0), ("5", 20, 5), ("10%", 20, 2), ("10%", 19, 1), ("10%", 9, 0), ("100%", 9, 9), ("12.5%", 8, 1)],
)
def test_a_budget_is_a_number_or_a_percentage_rounded_down(text: str, count: int, budget: int) -> None:
    assert parse_budget(text, count) == budget


@given(percent=st.integers(0, 100), count=st.integers(1, 10_000))
def test_a_budget_in_percent_is_exact(percent: int, count: int) -> None:
    assert parse_budget(f"{percent}%", count) == math.floor(percent * count / 100 + 1e-9)


@pytest.mark.parametrize("text", ["", "-1", "101%", "1.5", "all", "5 hosts", "%"])
def test_an_invalid_budget_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(Refused, match=r"--max-failures .* is not a valid number of hosts.*10%"):
        parse_budget(text, 20)


@pytest.mark.parametrize(
    ("text", "count", "words"),
    [
        ("0", 20, "stops at the first host that fails"),
        ("1", 20, "stops when more than 1 host failed"),
        ("5", 20, "stops when more than 5 hosts failed"),
        ("10%", 20, "stops when more than 2 hosts (10% of 20) failed"),
        ("10%", 6, "stops at the first host that fails (10% of 6)"),
        ("20", 20, "does not stop: all 20 hosts may fail"),
        ("100%", 20, "does not stop: all 20 hosts (100% of 20) may fail"),
    ],
)
def test_the_budget_in_words(text: str, count: int, words: str) -> None:
    assert budget_in_words(text, count) == words
