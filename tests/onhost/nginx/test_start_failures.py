"""Why a start failed: lines as nginx 1.22 and 1.31 write them, each told apart by its own word."""

import pytest

from fleet.onhost.nginx.start_failures import is_ignored, why_not_run, why_not_started
from fleet.onhost.reasons.catalogue import finding
from fleet.onhost.system.machine import Ran

OLD, NEW, WORKER = 80, 90, 81
PATH, PID_FILE = "/usr/sbin/nginx", "/run/nginx.pid"
AT = "2026/11/23 10:00:00"


def by(pid: int, level: str, text: str) -> str:
    return f"{AT} [{level}] {pid}#{pid}: {text}"


def execve(errno: int, text: str) -> str:
    return by(NEW, "alert", f'execve() failed while executing new binary process "{PATH}" ({errno}: {text})')


STARTING = by(OLD, "notice", f"start new binary process {NEW}")
GIVEN_UP = by(OLD, "notice", f"new binary process {NEW} exited with code 1")
RENAME = by(
    OLD,
    "alert",
    f"rename() {PID_FILE} to {PID_FILE}.oldbin failed before executing new binary process "
    f'"{PATH}" (2: No such file or directory)',
)
FORK = by(OLD, "alert", 'fork() failed while spawning "new binary process" (11: Resource temporarily unavailable)')
LOADER = f"{PATH}: error while loading shared libraries: libx.so: cannot open shared object file"
BIND = by(NEW, "emerg", "bind() to 0.0.0.0:81 failed (98: Address already in use)")
STILL = by(NEW, "emerg", "still could not bind()")
FULL = by(NEW, "crit", f'pwrite() "{PID_FILE}" failed (28: No space left on device)')
MODULE = by(NEW, "emerg", 'module "/m.so" is not binary compatible in /etc/nginx/nginx.conf:1')
VERSION = by(NEW, "emerg", 'module "/m.so" version 1022001 instead of 1031005 in /etc/nginx/nginx.conf:1')
REJECTED = by(NEW, "emerg", 'host not found in upstream "app" in /etc/nginx/nginx.conf:9')
OF_A_CLIENT = by(WORKER, "crit", "*7 connect() to unix:/a failed (2: No such file), client: 10.0.0.1, server: _")


def word(*lines: str) -> str | None:
    cause = why_not_started(lines, OLD, [WORKER], PATH, PID_FILE)
    if cause is not None:
        finding(cause.word, **cause.facts)
    return cause.word if cause else None


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([execve(2, "No such file or directory")], "exec_missing"),
        ([execve(13, "Permission denied")], "exec_denied"),
        ([execve(8, "Exec format error")], "exec_format"),
        ([execve(26, "Text file busy")], "text_busy"),
        ([execve(40, "Too many levels of symbolic links")], "exec_failed"),
        ([by(OLD, "alert", f"new binary process {NEW} exited on signal 11")], "start_crashed"),
        ([LOADER], "library_missing"),
        ([BIND, BIND, STILL], "listener_busy"),
        ([FULL], "pid_dir_full"),
        ([MODULE], "module_incompatible"),
        ([VERSION], "module_incompatible"),
        ([REJECTED], "config_rejected"),
        ([RENAME], "poisoned_by_rename"),
        ([FORK, by(OLD, "alert", "close() channel failed (9: Bad file descriptor)")], "poisoned_by_fork"),
        ([by(NEW, "alert", "mmap(MAP_ANON|MAP_SHARED, 1) failed (12: Cannot allocate memory)")], "launch_failed"),
        ([], None),
    ],
)
def test_each_way_not_to_start_has_its_own_word(lines: list[str], told: str | None) -> None:
    assert word(STARTING, *lines, GIVEN_UP) == told


def test_log_lines_of_old_workers_about_their_requests_are_no_cause() -> None:
    assert word(OF_A_CLIENT, by(WORKER, "emerg", "something of the old release")) is None


def test_another_process_s_failed_rename_poisons_no_master() -> None:
    assert word(RENAME.replace(f"{OLD}#{OLD}", "70#70")) != "poisoned_by_rename"


def test_the_port_that_is_taken_is_named() -> None:
    cause = why_not_started([BIND, STILL], OLD, [WORKER], PATH, PID_FILE)

    assert cause is not None
    assert cause.facts == {"listener": "0.0.0.0:81", "why": "98: Address already in use"}


@pytest.mark.parametrize(
    ("code", "output", "told"),
    [
        (127, f"[Errno 2] No such file or directory: '{PATH}'", "exec_missing"),
        (127, f"[Errno 13] Permission denied: '{PATH}'", "exec_denied"),
        (127, f"[Errno 8] Exec format error: '{PATH}'", "exec_format"),
        (127, f"[Errno 26] Text file busy: '{PATH}'", "text_busy"),
        (127, f"[Errno 40] Too many levels of symbolic links: '{PATH}'", "exec_failed"),
        (127, LOADER, "library_missing"),
        (-11, "", "start_crashed"),
    ],
)
def test_where_the_log_is_silent_the_binary_itself_gives_the_same_causes(code: int, output: str, told: str) -> None:
    cause = why_not_run(Ran(code, output, 0.1), PATH)

    assert cause is not None
    assert cause.word == told
    finding(cause.word, **cause.facts)


@pytest.mark.parametrize("code", [0, 1, 124])
def test_a_binary_that_answers_in_any_way_is_not_the_cause(code: int) -> None:
    assert why_not_run(Ran(code, "nginx version: nginx/1.26.2", 0.1), PATH) is None


def test_an_ignored_usr2_is_recognized_by_nginx_s_own_log_line() -> None:
    line = by(
        OLD,
        "crit",
        "the changing binary signal is ignored: you should shutdown or terminate before either old or new binary's process",
    )

    assert (is_ignored([STARTING, line], OLD) or "").startswith("the changing binary signal is ignored")
    assert is_ignored([line], NEW) is None
