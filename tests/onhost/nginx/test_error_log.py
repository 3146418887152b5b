"""What the error log says for and against a new master."""

import subprocess
import sys
from pathlib import Path

from fleet.onhost.nginx.error_log import NOWHERE, Mark, bad_lines, lines_since, mark, rejection
from fleet.onhost.system.machine import Machine

AT = "2026/11/23 10:00:00"
CRASH = f"{AT} [alert] 90#90: worker process 91 exited on signal 11"
FATAL = f"{AT} [alert] 90#90: worker process 91 exited with fatal code 2 and cannot be respawned"
UPSTREAM = f"{AT} [crit] 91#91: *7 connect() to unix:/a failed (2: No such file), client: 10.0.0.1, server: _"
NOTICE = f"{AT} [notice] 90#90: signal 17 (SIGCHLD) received from 91"
EMERG = f"{AT} [emerg] 90#90: bind() to 0.0.0.0:80 failed (98: Address already in use)"
RENAME = (
    f"{AT} [alert] 80#80: rename() /run/nginx.pid to /run/nginx.pid.oldbin failed before executing new binary process"
)


def test_only_grave_lines_of_the_new_generation_speak_against_it() -> None:
    lines = [CRASH, FATAL, UPSTREAM, NOTICE, EMERG, RENAME, "an access line [alert] 90#90: exited on signal 9"]

    assert bad_lines(lines, [90, 91]) == (CRASH, FATAL, EMERG)
    assert bad_lines(lines, [55]) == ()


def test_a_crit_line_about_one_request_is_no_verdict_on_the_release() -> None:
    assert bad_lines([UPSTREAM], [91]) == ()


def test_the_first_line_at_emerg_says_why_a_reload_was_rejected() -> None:
    still = f"{AT} [emerg] 90#90: still could not bind()"

    assert rejection([NOTICE, CRASH, EMERG, still], 90) == "bind() to 0.0.0.0:80 failed (98: Address already in use)"
    assert rejection([EMERG], 91) is None
    assert rejection([NOTICE, "a raw line"], 90) is None


def a_process_writing(log: Path, *, also_open: bool) -> "subprocess.Popen[bytes]":
    """A process with its stderr in that file and, as nginx has it, the same file open once more."""
    code = (
        "import sys; f = open(sys.argv[1], 'a') if sys.argv[2] == 'True' else None; print(flush=True); sys.stdin.read()"
    )
    with log.open("a") as sink:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(log), str(also_open)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sink,
        )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def ended(process: "subprocess.Popen[bytes]") -> None:
    process.communicate()


def test_lines_since_a_mark_are_those_written_after_it_also_across_a_rotation(tmp_path: Path) -> None:
    log = tmp_path / "error.log"
    log.write_text(EMERG + "\n")
    process = a_process_writing(log, also_open=True)
    try:
        machine = Machine()
        start = mark(machine, process.pid)
        with log.open("a") as sink:
            sink.write(CRASH + "\n")
        log.rename(tmp_path / "error.log.1")
        log.write_text(FATAL + "\n")

        assert start.path == str(log)
        assert lines_since(machine, start, [process.pid]) == [CRASH, FATAL]
    finally:
        ended(process)


def test_the_stderr_of_the_process_that_started_nginx_is_no_error_log(tmp_path: Path) -> None:
    process = a_process_writing(tmp_path / "boot.log", also_open=False)
    try:
        assert mark(Machine(), process.pid) == NOWHERE
        assert lines_since(Machine(), NOWHERE, [process.pid]) is None
    finally:
        ended(process)


def test_a_log_that_is_gone_is_missing_evidence(tmp_path: Path) -> None:
    assert lines_since(Machine(), Mark(str(tmp_path / "gone.log"), 1, 0), []) is None
