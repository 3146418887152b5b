"""A rehearsal in numbers."""

from fleet.onhost.preflight.result import summary
from fleet.onhost.rehearsal.evidence import Answered, Defect, Fault, Generation, Opened, Rehearsal
from fleet.onhost.views import RehearsalSummary

HTTP = Opened("tcp", "0.0.0.0:80", 2)
WELL = (Answered("tcp 0.0.0.0:80", "200", True), Answered("http://127.0.0.1/health", "as expected", True))
OLD = Generation(0.1, workers=2, listeners=(HTTP,), answers=WELL)


def test_a_release_that_does_what_the_running_one_does() -> None:
    found = summary(Rehearsal(OLD, OLD, wall_s=0.7, cpu_s=0.13, memory_kb=9000))

    assert found == RehearsalSummary(
        workers=2, listeners=1, questions=2, alike=2, took_s=0.7, cpu_s=0.13, memory_kb=9000
    )


def test_an_answer_counts_as_alike_only_if_it_is_the_same() -> None:
    new = OLD._replace(answers=(Answered("tcp 0.0.0.0:80", "500", True), WELL[1]), lines=("[crit] a", "[emerg] b"))

    found = summary(Rehearsal(OLD, new))

    assert (found.questions, found.alike, found.lines) == (2, 1, 2)


def test_a_line_that_the_running_release_writes_as_well_does_not_count() -> None:
    old, new, more = (f"2026/11/23 10:00:0{n} [alert] {n}#{n}: {text}" for n, text in ((1, "a"), (2, "a"), (3, "b")))

    assert summary(Rehearsal(OLD._replace(lines=(old,)), OLD._replace(lines=(new, more)))).lines == 1
    assert summary(Rehearsal(new=OLD._replace(lines=(new, more)), alone=True)).lines == 2


def test_a_probe_that_fails_on_both_releases_is_answered_alike() -> None:
    probe = "http://127.0.0.1/app"
    old = OLD._replace(answers=(Answered(probe, f"{probe}: answered 502 instead of 200, from worker 10", False),))
    new = OLD._replace(answers=(Answered(probe, f"{probe}: answered 502 instead of 200, from worker 14", False),))

    assert summary(Rehearsal(old, new)).alike == 1
    assert summary(Rehearsal(OLD._replace(answers=(Answered(probe, "as expected", True),)), new)).alike == 0


def test_an_added_listener_has_nothing_to_be_compared_with() -> None:
    more = Answered("tcp 0.0.0.0:8080", "200", True)
    new = OLD._replace(listeners=(HTTP, Opened("tcp", "0.0.0.0:8080", 1)), answers=(*WELL, more))

    assert summary(Rehearsal(OLD, new))[1:4] == (2, 3, 2)


def test_a_release_that_was_rehearsed_alone_is_compared_with_nothing() -> None:
    found = summary(Rehearsal(new=OLD, alone=True))

    assert (found.questions, found.alike, found.alone) == (2, 0, True)


def test_a_release_that_did_not_come_up_showed_nothing() -> None:
    broken = Generation(0.4, Fault(Defect.ENDED, "it exited with code 1"), lines=("nginx: [emerg] unknown directive",))

    assert summary(Rehearsal(OLD, broken)) == RehearsalSummary(lines=1)


def test_a_rehearsal_that_can_not_be_had_says_why() -> None:
    assert summary(Rehearsal(why_not="no namespaces")) == RehearsalSummary(why_not="no namespaces")
