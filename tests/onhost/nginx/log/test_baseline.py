"""The judgement of a new release: compared with what the running one writes on this host."""

from datetime import datetime, timedelta

import pytest

from fleet.onhost.nginx.log.baseline import compared, judge, known_lines, rehearsed_lines
from fleet.onhost.state.known_lines import Baseline, Writer

EPOCH = datetime(2026, 11, 23, 10)
CRASH = "worker process 91 exited on signal 11"
AFFINITY = "sched_setaffinity() failed (22: Invalid argument)"


def line(text: str, after_s: float = 0, pid: int = 90, level: str = "alert") -> str:
    at = (EPOCH + timedelta(seconds=after_s)).strftime("%Y/%m/%d %H:%M:%S")
    return f"{at} [{level}] {pid}#{pid}: {text}"


def baseline(*lines: str) -> Baseline:
    return Baseline(known_lines(lines, Writer.RUNNING), "12 KiB of its log")


def test_a_kind_of_line_that_the_running_release_writes_is_not_counted() -> None:
    found = judge([line(AFFINITY, 50, 95), line(AFFINITY, 50, 96)], baseline(line(AFFINITY, 0, 81)))

    assert found.counted == ()
    (known,) = found.known
    assert (known.line, known.times, known.known.line) == (line(AFFINITY, 50, 96), 2, line(AFFINITY, 0, 81))


def test_a_new_kind_of_line_counts_beside_known_ones() -> None:
    new = line('open() "/etc/b.pem" failed (2: ENOENT)', 50, 95)

    found = judge(
        [line(AFFINITY, 50, 95), new],
        baseline(line(AFFINITY), line('open() "/etc/a.pem" failed (2: ENOENT)')),
    )

    assert found.counted == (new,)
    assert compared(found.counted, baseline()) == "The running release wrote none like them in 12 KiB of its log"


def test_a_worker_that_exits_as_the_running_releases_workers_do_is_not_counted() -> None:
    found = judge([line(CRASH, 500)], baseline(line(CRASH, 0)))

    assert (found.counted, found.known_exits) == ((), 1)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ([0], [500, 501]),
        ([0, 400], [500, 501]),
        ([0, 1], [500, 500]),
        ([0, 100, 200], [500, 600, 601]),
        ([0], [500] * 15_000),
    ],
    ids=["two-for-one", "closer", "in-one-second", "closer-later", "a-crash-loop"],
)
def test_a_crash_loop_does_not_hide_behind_an_old_crash(before: list[float], now: list[float]) -> None:
    known = baseline(*(line(CRASH, at_s) for at_s in before))

    found = judge([line(CRASH, at_s) for at_s in now], known)

    assert len(found.counted) == len(now)
    assert compared(found.counted, known).startswith("The running release wrote such lines less often: at most ")


def test_as_many_exits_in_as_short_a_time_are_not_counted() -> None:
    before = [line(CRASH, at_s) for at_s in (0, 5, 90, 95)]
    now = [line(CRASH, at_s) for at_s in (500, 505, 590)]

    assert judge(now, baseline(*before)).counted == ()


def test_another_signal_is_another_exit() -> None:
    old = line("worker process 91 exited on signal 9")

    assert judge([line(CRASH, 500)], baseline(old)).counted == (line(CRASH, 500),)


def test_a_flood_of_a_known_line_counts_and_a_reload_more_does_not() -> None:
    known = baseline(line("1024 worker_connections are not enough"))

    assert judge([line("1024 worker_connections are not enough", 500)] * 100, known).counted == ()
    assert len(judge([line("1024 worker_connections are not enough", 500)] * 101, known).counted) == 101


def test_a_pattern_of_the_operator_names_lines_that_do_not_count_and_no_exit() -> None:
    lines = [line(AFFINITY), line("something new"), line(CRASH)]

    found = judge(lines, Baseline(), ["sched_setaffinity() failed", "exited on"])

    assert [(one.line, one.pattern) for one in found.allowed] == [(line(AFFINITY), "sched_setaffinity() failed")]
    assert found.counted == (line("something new"), line(CRASH))
    assert compared(found.counted, Baseline()).endswith("none of its log was read")


def test_a_rehearsal_adds_its_lines_but_no_exit() -> None:
    """In a rehearsal a worker may die of the rehearsal itself."""
    lines = [line(AFFINITY), line(CRASH), line("about a request, client: 10.0.0.1"), "the loader's own line"]

    assert [(one.kind, one.by) for one in rehearsed_lines(lines)] == [("alert: " + AFFINITY, Writer.REHEARSED)]


def test_the_last_of_several_lines_is_shown() -> None:
    (known,) = known_lines([line(AFFINITY, 5), line(AFFINITY, 9), line(AFFINITY, 7)], Writer.RUNNING)

    assert known.line == line(AFFINITY, 9)
    assert known.most[0] == 1
    assert known.most[2] == 3
