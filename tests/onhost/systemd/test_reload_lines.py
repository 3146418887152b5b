"""The ExecReload= of real units, and what the guard makes of it."""

import subprocess

import pytest

from fleet.onhost.systemd.reload_lines import by_pid_file, reload_lines
from tests.support.onhost.recorded import RecordedMachine

PID_FILE = "/run/nginx.pid"


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("/bin/kill -s HUP $MAINPID", "/bin/sh -c '/bin/kill -s HUP $$(cat /run/nginx.pid)'"),
        ("-+/bin/kill -HUP ${MAINPID}", "-+/bin/sh -c '/bin/kill -HUP $$(cat /run/nginx.pid)'"),
        (
            '/bin/sh -c "/usr/sbin/nginx -t && /bin/kill -HUP $MAINPID"',
            '/bin/sh -c "/usr/sbin/nginx -t && /bin/kill -HUP $$(cat /run/nginx.pid)"',
        ),
        ("/opt/reload 'a b' $MAINPID", "/bin/sh -c 'kill -HUP $$(cat /run/nginx.pid)'"),
        ("@/bin/kill kill -HUP $MAINPID", "/bin/sh -c 'kill -HUP $$(cat /run/nginx.pid)'"),
    ],
)
def test_a_command_with_the_main_process_gets_the_pid_file_instead(line: str, wanted: str) -> None:
    assert by_pid_file(["/usr/sbin/nginx -t", line], PID_FILE) == ["/usr/sbin/nginx -t", wanted]


@pytest.mark.parametrize(
    ("line", "pid_file"),
    [
        ("/usr/sbin/nginx -s reload", PID_FILE),
        ('/bin/sh -c "/bin/kill -s HUP $(/bin/cat /var/run/nginx.pid)"', PID_FILE),
        ("/bin/kill -s HUP $MAINPIDS", PID_FILE),
        ("/bin/kill -s HUP $MAINPID", "/run/my nginx.pid"),
        ("/bin/kill -s HUP $MAINPID", "/run/$(reboot).pid"),
        ("/bin/kill -s HUP $MAINPID", ""),
    ],
)
def test_a_unit_whose_reload_goes_by_the_pid_file_keeps_it_and_so_does_one_with_an_odd_path(
    line: str, pid_file: str
) -> None:
    assert by_pid_file([line], pid_file) is None


def test_in_a_unit_that_may_not_execute_a_shell_the_command_runs_outside_of_its_limits() -> None:
    (line,) = by_pid_file(["/bin/kill -HUP $MAINPID"], PID_FILE, confined=True) or [""]

    assert line.startswith("+/bin/sh -c ")


def test_the_commands_are_read_from_the_files_as_systemd_reads_them() -> None:
    machine = RecordedMachine(
        texts={
            "/unit": "[Unit]\nExecReload=/no\n[Service]\n# ExecReload=/no\nExecReload=/a \\\n; a comment\n  b\nExecReload=/c\n",
            "/drop-in": "[Service]\nExecReload=\nExecReload = /d\n",
        }
    )

    assert reload_lines(machine, ("/unit",)) == ["/a    b", "/c"]
    assert reload_lines(machine, ("/unit", "/drop-in", "/missing")) == ["/d"]


def test_the_rewritten_command_is_one_that_a_shell_takes() -> None:
    (line,) = by_pid_file(["/bin/kill -s HUP $MAINPID"], "/proc/self/stat") or [""]
    script = line.partition("'")[2].rstrip("'").replace("$$", "$").replace("/bin/kill -s HUP", "echo")

    assert subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True).stdout.split()[0].isdigit()
