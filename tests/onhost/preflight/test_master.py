from typing import Any

import pytest

from fleet.onhost.observation import Master, Observation
from fleet.onhost.preflight.master import at_its_path, obeys, pid_file, stays_in_foreground, the_master
from fleet.onhost.protocol import Finding, Goal, Record, Rest, State
from fleet.onhost.rehearsal.evidence import Defect, Rehearsal
from fleet.onhost.system.process import Process
from tests.support.onhost.recorded import (
    NEW,
    PATH,
    PID_FILE,
    RecordedMachine,
    a_look,
    a_master,
    a_record,
    a_request,
    a_subject,
)
from tests.support.onhost.shown import UP, failed, files, shown

INIT = Process(1, 0, 1, "S", 1, "/sbin/init splash")
RUNIT = Process(50, 1, 2, "S", 1, "/usr/bin/runsv nginx")


def a_host(sessions: dict[int, int] | None = None) -> RecordedMachine:
    told = {1: 1, 50: 50, 812: 812, **(sessions or {})}
    texts = {f"/proc/{pid}/stat": f"{pid} (a (b) c) S 1 {pid} {session} 0" for pid, session in told.items()}
    return RecordedMachine(texts=texts, processes=(INIT, RUNIT))


def words(found: list[Finding]) -> list[str]:
    return [one.reason for one in found]


def obeyed(
    old: Master, text: str = "events {}", host: RecordedMachine | None = None, look: Observation | None = None
) -> list[Finding]:
    return obeys(a_subject(host or a_host(), old, look), files(text))


def test_a_daemon_of_init_obeys() -> None:
    assert obeyed(a_master()) == []


def test_a_second_generation_in_the_session_of_the_first_obeys() -> None:
    assert obeyed(a_master(pid=900), host=a_host({900: 812})) == []


@pytest.mark.parametrize(
    ("old", "text", "reason"),
    [
        (a_master(argv=(PATH, "-g", "daemon", "off;")), "", "daemon_off"),
        (a_master(ppid=50, argv=(PATH, "-g", "daemon", "off;")), "", "supervised"),
        (a_master(pid=1, ppid=0), "daemon off;", "pid_1"),
        (a_master(argv=("nginx",)), "", "relative_argv0"),
        (a_master(argv=("sbin/nginx", "-c", "/x")), "", "relative_argv0"),
        (a_master(workers=()), "master_process off;", "master_process_off"),
        (a_master(stopped=True), "", "stopped"),
    ],
)
def test_a_master_that_would_ignore_usr2_is_refused_by_name(old: Master, text: str, reason: str) -> None:
    assert words(obeyed(old, text)) == [reason]


def test_a_master_in_its_parent_s_session_is_no_daemon_whatever_the_files_say_now() -> None:
    (found,) = obeyed(a_master(ppid=50), host=a_host({812: 50}))

    assert found.reason == "supervised"
    assert "in the foreground: runsv (pid 50)" in found.message


def test_daemon_off_names_the_program_that_runs_it() -> None:
    (found,) = stays_in_foreground(a_subject(a_host()), files("daemon off;"), None)

    assert "`daemon off` and is a child of init (pid 1)" in found.message


@pytest.mark.parametrize(
    ("text", "rehearsal", "reasons"),
    [
        ("daemon off;", None, ["daemon_off"]),
        ("daemon off;", shown(old=None), ["daemon_off"]),
        ("daemon off;", shown(old=failed(Defect.ENDED)), ["daemon_off"]),
        ("events {}", None, []),
        ("# daemon off;", None, []),
        ("events {}", shown(old=UP._replace(daemon=False)), ["daemon_off"]),
        ("map $x $y { daemon off; }", shown(), []),
    ],
)
def test_the_rehearsal_shows_whether_nginx_stays_in_the_foreground_else_the_files_do(
    text: str, rehearsal: Rehearsal | None, reasons: list[str]
) -> None:
    assert words(stays_in_foreground(a_subject(a_host()), files(text), rehearsal)) == reasons


def test_one_that_shows_it_by_itself_is_not_named_twice() -> None:
    old = a_master(argv=(PATH, "-g", "daemon", "off;"))

    assert stays_in_foreground(a_subject(a_host(), old), files("daemon off;"), None) == []


def test_a_master_that_does_not_hear_its_signals_is_refused_by_name() -> None:
    host = a_host()
    masks = "SigPnd:\t0\nShdPnd:\t800\nSigBlk:\t800\nSigIgn:\t10000\nSigCgt:\t8006a07\n"
    host.texts["/proc/812/status"], host.texts["/proc/812/wchan"] = masks, "sigsuspend"

    unheard, pending = obeyed(a_master(), host=host)

    assert (unheard.reason, pending.reason) == ("signals_unheard", "signal_pending")
    assert "does not hear CHLD (ignored), USR2 (blocked), which" in unheard.message
    assert "act on: USR2." in pending.message
    assert words(obeyed(a_master(stopped=True), host=host)) == ["stopped"]


@pytest.mark.parametrize("look", [{"others": (50,)}, {"others": (60,), "oldbin_pid": 60}])
def test_a_previous_master_that_lives_is_refused(look: dict[str, object]) -> None:
    old = a_master(ppid=50)

    found = obeyed(old, look=a_look(old, **look))  # type: ignore[arg-type]  # fields of a look, by name

    assert words(found) == ["previous_master"]


def test_an_oldbin_that_names_no_process_is_no_previous_master() -> None:
    assert obeyed(a_master(), look=a_look(a_master(), oldbin_pid=4711)) == []


# Which master


def chosen(seen: Observation, record: Record | None = None) -> tuple[list[str], Master | None]:
    titles = tuple(Process(pid, 1, 1, "S", 1, "nginx: master process x") for pid in seen.others)
    found, master = the_master(RecordedMachine(processes=titles), a_request(), seen, record)
    return words(found), master


def test_the_one_master_is_taken() -> None:
    assert chosen(a_look(a_master())) == ([], a_master())


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (a_look(), "no_master"),
        (a_look(others=(7,)), "no_master"),
        (a_look(others=(7, 8), pid_file=None), "several_masters"),
        (a_look(alone=99), "master_process_off"),
        (a_look(a_master(), a_master(pid=900, ppid=1)), "several_masters"),
        (a_look(a_master(), a_master(pid=900, ppid=812), a_master(pid=901, ppid=900)), "several_masters"),
        (a_look(a_master(listeners=(5,)), a_master(pid=900, ppid=812)), "upgrade_in_progress"),
        (a_look(a_master(), a_master(pid=900, ppid=812)), "previous_master"),
    ],
)
def test_without_one_master_there_is_a_reason(seen: Observation, reason: str) -> None:
    assert chosen(seen) == ([reason], None)


def test_workers_of_a_dead_master_are_named_before_nginx_is_started() -> None:
    found, _ = the_master(RecordedMachine(), a_request(), a_look(orphans=(813, 814)), None)

    assert [one.reason for one in found] == ["no_master"]
    assert "workers 813, 814 of a dead master still serve and hold its ports" in found[0].message
    assert "kill -QUIT 813 814" in found[0].message


def test_two_masters_of_this_rollout_or_of_one_to_the_same_release_are_its_own_business() -> None:
    seen = a_look(a_master(listeners=(5,)), a_master(pid=900, ppid=812))

    assert chosen(seen, a_record("r1")) == ([], None)
    assert chosen(seen, a_record("r0")) == ([], None)
    assert chosen(seen, a_record("r0")._replace(target="f" * 64)) == (["upgrade_in_progress"], None)
    assert chosen(seen, a_record("r0")._replace(state=State.COMMITTED)) == (["upgrade_in_progress"], None)


# The pid file


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        ("812\n", []),
        ("812", []),
        (None, ["pid_file_missing"]),
        ("", ["pid_file_empty"]),
        ("\n", ["pid_file_empty"]),
        ("813\n", ["pid_file_wrong"]),
        ("x", ["pid_file_wrong"]),
    ],
)
def test_the_pid_file_must_name_the_master(text: str | None, reasons: list[str]) -> None:
    host = RecordedMachine(texts={} if text is None else {PID_FILE: text})

    assert words(pid_file(a_subject(host))) == reasons


def test_a_pid_file_whose_path_is_not_known_is_reported() -> None:
    assert words(pid_file(a_subject(RecordedMachine(), look=a_look(a_master(), pid_file=None)))) == ["not_checked"]


# The file at the path

SAME = {"st_dev": 1, "st_ino": 10}
OTHER = {"st_dev": 1, "st_ino": 11}
HERE = {PATH: SAME, "/proc/812/root" + PATH: SAME}


def at(
    stats: dict[str, dict[str, Any]],
    look: Observation | None = None,
    processes: tuple[Process, ...] = (),
    links: dict[str, str] | None = None,
) -> list[str]:
    host = RecordedMachine(stats=stats, processes=processes, links={"/proc/812/root": "/", **(links or {})})
    return words(at_its_path(a_subject(host, look=look)))


def test_a_file_that_is_what_runs_and_is_ours_alone_is_right() -> None:
    assert at(HERE) == []


def test_a_missing_file_is_refused() -> None:
    assert at({}) == ["binary_missing"]


def test_a_file_that_is_another_than_what_runs_is_refused() -> None:
    assert at(HERE, a_look(a_master(), path_sha256=NEW)) == ["path_differs"]


def test_a_file_that_a_rollout_put_there_before_it_was_ended_is_no_stranger_s() -> None:
    host = RecordedMachine(stats=HERE, links={"/proc/812/root": "/"})
    look = a_look(a_master(), path_sha256=NEW)

    assert words(at_its_path(a_subject(host, look=look, record=a_record()))) == []
    undone = a_record()._replace(state=State.ROLLED_BACK)
    assert words(at_its_path(a_subject(host, look=look, record=undone))) == ["path_differs"]


def test_an_interrupted_upgrade_continues_only_to_the_same_release() -> None:
    look, left = a_look(a_master(), path_sha256=NEW), a_record()
    other = a_request()._replace(goal=Goal("c" * 64, Rest.HELD))

    assert the_master(RecordedMachine(), a_request(), look, left) == ([], look.masters[0])
    found, judged = the_master(RecordedMachine(), other, look, left)
    assert (words(found), judged) == (["upgrade_in_progress"], None)


def test_a_master_in_another_root_or_mount_namespace_is_refused() -> None:
    assert at(HERE, links={"/proc/812/root": "/srv/jail"}) == ["other_root"]
    assert at({**HERE, "/proc/812/root" + PATH: OTHER}) == ["other_root"]
    assert at({PATH: SAME}) == ["other_root"]


def test_a_file_that_another_instance_would_execute_is_refused() -> None:
    other = Process(77, 1, 1, "S", 1, "nginx: master process /usr/sbin/nginx -c /etc/other.conf")
    look = a_look(a_master(), others=(77,))

    assert at({**HERE, "/proc/77/root" + PATH: SAME}, look, (other,)) == ["shared_binary"]
    assert at({**HERE, "/proc/77/exe": SAME}, look, (other,)) == ["shared_binary"]
    assert at({**HERE, "/proc/77/root" + PATH: OTHER, "/proc/77/exe": OTHER}, look, (other,)) == []
