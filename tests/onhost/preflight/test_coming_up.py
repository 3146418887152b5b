"""A new release that does not come up in the rehearsal: the reason of each way, and what the running one says about it."""

import pytest

from fleet.onhost.preflight.coming_up import failed_starts
from fleet.onhost.protocol import Finding, Severity
from fleet.onhost.rehearsal.evidence import Defect, Generation, Rehearsal
from tests.support.onhost.recorded import RecordedMachine, a_subject
from tests.support.onhost.shown import UP, failed, shown

AT = "2026/11/23 10:00:00"
BY_NEW = f"{AT} [emerg] 90#90: "
REJECTED = 'unknown directive "quic_gso" in /etc/nginx/nginx.conf:3'
NO_NAME = 'host not found in upstream "app" in /etc/nginx/nginx.conf:9'
MODULE = 'module "/m.so" version 1022001 instead of 1026003 in /etc/nginx/nginx.conf:1'
LOADER = "/usr/sbin/nginx: error while loading shared libraries: libx.so: cannot open shared object file"
CRASHED = f"{AT} [alert] 90#90: worker process 91 exited on signal 4"
GAVE_UP = f"{AT} [alert] 90#90: worker process 91 exited with fatal code 2 and cannot be respawned"
RLIMIT = f"{AT} [alert] 90#90: setrlimit(RLIMIT_NOFILE, 99) failed (1: Operation not permitted)"
BLOCKED = failed(Defect.BLOCKED, path="/run/secret")


def told(rehearsal: Rehearsal) -> list[Finding]:
    return failed_starts(a_subject(RecordedMachine()), rehearsal)


def words(rehearsal: Rehearsal) -> list[str]:
    return [one.reason for one in told(rehearsal)]


def test_two_releases_that_come_up_have_nothing_against_them() -> None:
    assert told(shown()) == []
    assert told(shown(old=None)) == []


@pytest.mark.parametrize(
    ("new", "word"),
    [
        (failed(Defect.ENDED, BY_NEW + REJECTED), "config_rejected"),
        (failed(Defect.ENDED, "nginx: [emerg] " + REJECTED), "config_rejected"),
        (failed(Defect.ENDED, BY_NEW + MODULE), "module_mismatch"),
        (failed(Defect.ENDED, LOADER), "library_missing"),
        (failed(Defect.ENDED, BY_NEW + "bind() to unix:/run/x failed (98: Address already in use)"), "listener_busy"),
        (failed(Defect.ENDED, f"{AT} [alert] 80#80: new binary process 90 exited on signal 11"), "start_crashed"),
        (failed(Defect.ENDED, signal=11), "start_crashed"),
        (failed(Defect.ENDED, RLIMIT, signal=11), "start_crashed"),
        (failed(Defect.ENDED), "launch_failed"),
        (failed(Defect.ENDED, "a library's own last words"), "launch_failed"),
        (failed(Defect.WORKERS_DIE, CRASHED), "workers_crash"),
        (failed(Defect.WORKERS_DIE), "workers_crash"),
        (failed(Defect.NO_WORKERS, GAVE_UP), "workers_fatal"),
        (failed(Defect.NO_WORKERS, CRASHED), "workers_crash"),
        (failed(Defect.NO_WORKERS), "workers_missing"),
        (failed(Defect.IGNORED), "usr2_ignored"),
        (BLOCKED, "fifo_blocks"),
    ],
)
def test_each_way_not_to_come_up_has_the_word_that_it_has_at_the_launch(new: Generation, word: str) -> None:
    (found,) = told(shown(new))

    assert found.reason == word
    assert found.severity is Severity.REFUSAL
    assert found.remedy


def test_the_operator_reads_that_no_user_met_it() -> None:
    (found,) = told(shown(failed(Defect.WORKERS_DIE, CRASHED)))

    assert (
        "exited on signal 4. The running release's workers stay. Seen in the rehearsal; no user met it."
        in found.message
    )


def test_how_many_workers_are_missing_is_said() -> None:
    (found,) = told(shown(failed(Defect.NO_WORKERS, workers=1)))

    assert "1 of 2 serve after 3 s" in found.message


@pytest.mark.parametrize(
    "both",
    [
        failed(Defect.ENDED, BY_NEW + NO_NAME),
        failed(Defect.NO_WORKERS),
        failed(Defect.WORKERS_DIE, CRASHED),
        failed(Defect.ENDED, signal=11),
    ],
)
def test_what_the_running_release_fails_as_well_proves_nothing(both: Generation) -> None:
    (found,) = told(shown(both, both))

    assert found.reason == "rehearsal_inconclusive"
    assert found.overridable


def test_it_is_quoted_in_nginx_s_own_words() -> None:
    old = failed(Defect.ENDED, "nginx: [emerg] " + NO_NAME)

    (found,) = told(shown(failed(Defect.ENDED, BY_NEW + NO_NAME), old))

    assert NO_NAME in found.message


def test_a_release_that_fails_in_another_way_than_the_running_one_is_refused_for_that() -> None:
    old = failed(Defect.ENDED, "nginx: [emerg] " + REJECTED)

    assert words(shown(failed(Defect.ENDED, BY_NEW + NO_NAME), old)) == ["config_rejected"]
    assert words(shown(failed(Defect.ENDED, signal=11), failed(Defect.ENDED, signal=4))) == ["start_crashed"]


def test_a_module_that_fits_neither_release_is_named_all_the_same() -> None:
    both = failed(Defect.ENDED, BY_NEW + MODULE)

    assert words(shown(both, both)) == ["module_mismatch"]


def test_files_that_only_the_new_release_accepts_are_a_warning_about_the_way_back() -> None:
    (found,) = told(shown(UP, failed(Defect.ENDED, "nginx: [emerg] " + REJECTED)))

    assert (found.reason, found.severity) == ("old_would_not_start", Severity.WARNING)
    assert REJECTED in found.message


def test_a_fifo_that_already_the_running_release_waits_for_is_named() -> None:
    (found,) = told(shown(None, BLOCKED))

    assert found.reason == "fifo_blocks"
    assert "/run/secret, a FIFO" in found.message
    assert "install -m 400 FILE /run/secret" in found.remedy


def test_a_line_that_the_running_release_writes_too_is_not_the_cause() -> None:
    old = UP._replace(lines=(RLIMIT.replace("90#90", "80#80"),))

    (found,) = told(shown(failed(Defect.ENDED, RLIMIT, text="it exited with code 1"), old))

    assert found.message.startswith("The new master did not start: it exited with code 1.")


def test_a_master_that_ignores_usr2_because_it_is_no_daemon_has_another_reason() -> None:
    assert words(shown(failed(Defect.IGNORED), UP._replace(daemon=False))) == []


def test_without_a_rehearsal_the_cause_and_the_gap_are_said() -> None:
    (found,) = told(shown(None, None, why_not="a user namespace can't be entered"))

    assert (found.reason, found.overridable) == ("not_rehearsed", True)
    assert "because" not in found.message
    assert "on this host: a user namespace can't be entered. So it is not known" in found.message
