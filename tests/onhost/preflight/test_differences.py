"""What two releases that come up do differently, and what is no difference."""

import pytest

from fleet.onhost.preflight.differences import differences, modules_gone
from fleet.onhost.protocol import Finding, Severity
from fleet.onhost.rehearsal.evidence import Answered, Defect, Generation, Rehearsal
from tests.support.onhost.recorded import RecordedMachine, a_look, a_master, a_request, a_subject
from tests.support.onhost.shown import UP, failed, shown

AT = "2026/11/23 10:00:00"
PLACE = "tcp 0.0.0.0:80"
URL = "http://127.0.0.1/health"
AFFINITY = f"{AT} [alert] 90#90: sched_setaffinity() failed (22: Invalid argument)"
CRASHED = f"{AT} [alert] 90#90: worker process 91 exited on signal 4"
GAVE_UP = f"{AT} [alert] 90#90: worker process 91 exited with fatal code 2 and cannot be respawned"


def told(rehearsal: Rehearsal) -> list[Finding]:
    return differences(a_subject(RecordedMachine()), rehearsal)


def words(rehearsal: Rehearsal) -> list[str]:
    return [one.reason for one in told(rehearsal)]


def answering(answer: str, good: bool = True, question: str = PLACE) -> Answered:
    return Answered(question, answer, good)


def test_releases_that_show_the_same_differ_in_nothing() -> None:
    assert told(shown()) == []
    assert told(shown(old=None)) == []


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (answering("200"), answering("500")),
        (answering("200"), answering("404")),
        (answering("301"), answering("200")),
        (answering("200"), answering("no answer", good=False)),
        (answering("200 over TLS"), answering("200")),
        (answering("an answer that is not HTTP"), answering("400")),
    ],
)
def test_an_answer_of_another_class_is_refused(was: Answered, now: Answered) -> None:
    (found,) = told(shown(UP._replace(answers=(now,)), UP._replace(answers=(was,))))

    assert (found.reason, found.overridable) == ("answers_differ", True)
    assert f"{PLACE} gives {now.answer} instead of {was.answer}" in found.message


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (answering("200"), answering("204")),
        (answering("403"), answering("404")),
        (answering("502"), answering("504")),
        (answering("no answer", good=False), answering("no answer", good=False)),
        (answering("no answer", good=False), answering("500")),
        (answering("200", question="tcp 0.0.0.0:81"), answering("500")),
    ],
)
def test_an_answer_of_the_same_class_or_to_what_the_running_release_does_not_answer_is_none(
    was: Answered, now: Answered
) -> None:
    assert told(shown(UP._replace(answers=(now,)), UP._replace(answers=(was,)))) == []


def test_a_probe_that_only_the_new_release_fails_is_quoted_once() -> None:
    problem = f"{URL}: answered 500 instead of 200, from worker 91"
    new = UP._replace(answers=(answering(problem, good=False, question=URL),))
    old = UP._replace(answers=(answering("as expected", question=URL),))

    (found,) = told(shown(new, old))

    assert found.message == f"The new release answers otherwise than the running one: {problem}."


def test_without_the_running_release_answers_are_not_compared() -> None:
    assert told(shown(UP._replace(answers=(answering("500"),)), None)) == []
    assert told(shown(UP._replace(answers=(answering("500"),)), failed(Defect.ENDED))) == []


def test_a_line_that_the_running_release_writes_too_does_not_count() -> None:
    same = AFFINITY.replace(AT, "2026/11/23 09:59:58").replace("90#90", "80#80")

    assert told(shown(UP._replace(lines=(AFFINITY,)), UP._replace(lines=(same,)))) == []
    (found,) = told(shown(UP._replace(lines=(AFFINITY,))))
    assert found.reason == "rehearsal_log"
    assert AFFINITY in found.message
    assert "The running release wrote none like them in the rehearsal." in found.message
    assert "`--allow log-line='sched_setaffinity() failed (22: Invalid argument)'`" in found.remedy


def a_log_with(line: str) -> RecordedMachine:
    """The error log of the running master (pid 812), which holds this line of its own."""
    fds = "/proc/812/fd"
    return RecordedMachine(
        texts={f"{fds}/2": line + "\n"},
        stats={f"{fds}/2": {"st_size": len(line) + 1}, f"{fds}/4": {}},
        names={fds: ("2", "4")},
        links={f"{fds}/2": "/var/log/nginx/error.log"},
    )


@pytest.mark.parametrize("line", [AFFINITY, CRASHED])
@pytest.mark.parametrize("old", [UP, None])
def test_a_line_that_the_running_release_wrote_to_its_log_does_not_count(line: str, old: Generation | None) -> None:
    machine = a_log_with(line.replace("90#90", "812#812"))
    new = shown(UP._replace(lines=(line,)), old)

    assert differences(a_subject(machine), new) == []
    (found,) = differences(a_subject(a_log_with("2026/11/23 10:00:00 [alert] 812#812: another")), new)
    assert "in 1 KiB of its log (2026/11/23 10:00:00 to 2026/11/23 10:00:00)." in found.message


def test_more_exits_than_the_running_release_shows_count() -> None:
    new = UP._replace(lines=(CRASHED, CRASHED.replace("91", "92")))

    (found,) = differences(a_subject(a_log_with(CRASHED.replace("90#90", "812#812"))), shown(new))

    assert found.reason == "workers_crash"
    assert "The running release wrote such lines less often: at most 1 within 1 s" in found.message


def test_a_line_that_the_operator_names_is_allowed_and_said() -> None:
    request = a_request(allow=("log-line=sched_setaffinity()",))

    (found,) = differences(a_subject(RecordedMachine(), request=request), shown(UP._replace(lines=(AFFINITY,))))

    assert (found.reason, found.severity) == ("log_allowed", Severity.WARNING)
    assert f"{AFFINITY} (log-line='sched_setaffinity()')" in found.message


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (CRASHED, "workers_crash"),
        (GAVE_UP, "workers_fatal"),
        ("nginx: [crit] something before the log is open", "rehearsal_log"),
        ("ERROR: a library writes to stderr", "rehearsal_log"),
    ],
)
def test_a_new_line_has_the_word_of_what_it_says(line: str, word: str) -> None:
    assert words(shown(UP._replace(lines=(line,)))) == [word]


def test_what_fleet_itself_says_there_speaks_against_no_release() -> None:
    said = "fleet: not set as for the master: the limit of locked memory"

    assert told(shown(UP._replace(lines=(said,)), None)) == []


def test_a_configuration_that_names_another_pid_file_by_now_is_refused() -> None:
    elsewhere = UP._replace(pid_file=None)

    assert words(shown(elsewhere, elsewhere)) == ["pid_file_moved"]
    assert words(shown(elsewhere, None)) == ["pid_file_moved"]


def test_a_pid_file_that_names_no_master_anyway_tells_nothing() -> None:
    elsewhere = UP._replace(pid_file=None)
    for look in (a_look(a_master(), pid_file=None), a_look(a_master(), pid_file_pid=4711)):
        assert differences(a_subject(RecordedMachine(), look=look), shown(elsewhere, elsewhere)) == []


def test_modules_that_only_the_running_release_loads_are_named() -> None:
    old = UP._replace(modules=("/old/modules/ngx_http_geoip_module.so", *UP.modules))

    assert modules_gone(shown(UP, old)) == ["ngx_http_geoip_module.so"]
    assert modules_gone(shown(UP, UP._replace(modules=("/elsewhere/ngx_stream_module.so",)))) == []
    assert modules_gone(shown(UP, None)) == []
    assert modules_gone(None) == []


def test_a_release_that_did_not_come_up_shows_no_difference() -> None:
    assert told(shown(failed(Defect.ENDED))) == []
