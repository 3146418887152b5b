"""Two log lines are of one kind when they report the same failure of the same thing; and how often a kind is written."""

import pytest

from fleet.onhost.nginx.log.kinds import is_exit, kind_of, most_within, shortened, suggested_pattern
from fleet.onhost.state.known_lines import WINDOWS_S

CACHED = "/var/cache/nginx"


def line(text: str, level: str = "alert", pid: int = 91, at: str = "10:00:00") -> str:
    return f"2026/11/23 {at} [{level}] {pid}#{pid}: {text}"


SAME = [
    ("sched_setaffinity() failed (22: Invalid argument)", "sched_setaffinity() failed (22: Invalid argument)"),
    ("setrlimit(RLIMIT_NOFILE, 131072) failed (1: EPERM)", "setrlimit(RLIMIT_NOFILE, 65536) failed (1: EPERM)"),
    ("1024 worker_connections are not enough", "512 worker_connections are not enough"),
    ("*67 open socket #12 left in connection 5", "*9 open socket #3 left in connection 44"),
    ("pointer to wrong page 00007F3A2C001234", "pointer to wrong page 000055D0A1B2C3D4"),
    ("worker process 92 exited on signal 11", "worker process 93 exited on signal 11 (core dumped)"),
    (
        "worker process 92 exited with fatal code 2 and cannot be respawned",
        "worker process 7 exited with fatal code 2 and cannot be respawned",
    ),
    (
        f'unlink() "{CACHED}/c/29/b7f54b2df7773722d382f4809d65029c" failed (2: No such file or directory)',
        f'unlink() "{CACHED}/e/5b/0ad3a6b31e2f44dd6d35a2ac0c1715be" failed (2: No such file or directory)',
    ),
    (
        'open() "/var/lib/nginx/body/1/00/0000000001" failed (13: Permission denied)',
        'open() "/var/lib/nginx/body/7/02/0000000027" failed (13: Permission denied)',
    ),
]
DIFFERENT = [
    ('open() "/etc/nginx/a.pem" failed (2: ENOENT)', 'open() "/etc/nginx/b.pem" failed (2: ENOENT)'),
    ('open() "/var/www/1.html" failed (2: ENOENT)', 'open() "/var/www/2.html" failed (2: ENOENT)'),
    ('open() "/etc/nginx/a.pem" failed (2: ENOENT)', 'open() "/etc/nginx/a.pem" failed (13: EACCES)'),
    ("bind() to 0.0.0.0:80 failed (98: in use)", "bind() to 0.0.0.0:443 failed (98: in use)"),
    ("bind() to [::1]:80 failed (98: in use)", "bind() to [::1]:81 failed (98: in use)"),
    ("bind() to unix:/run/app1.sock failed (98: in use)", "bind() to unix:/run/app2.sock failed (98: in use)"),
    ("worker process 92 exited on signal 11", "worker process 92 exited on signal 9"),
    ("worker process 92 exited with fatal code 2", "worker process 92 exited on signal 2"),
    ("worker process 92 exited on signal 11", "cache manager process 92 exited on signal 11"),
    ("accept4() failed (24: Too many open files)", "accept() failed (24: Too many open files)"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_pids_numbers_and_names_that_nginx_makes_up_do_not_make_another_kind(one: str, other: str) -> None:
    assert kind_of(line(one, pid=5, at="10:00:00")) == kind_of(line(other, pid=1234567, at="23:59:59"))


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_another_name_errno_signal_or_listener_is_another_kind(one: str, other: str) -> None:
    assert kind_of(line(one)) != kind_of(line(other))


def test_a_higher_level_is_another_kind() -> None:
    assert kind_of(line("something", level="alert")) != kind_of(line("something", level="emerg"))


def test_a_line_on_stderr_is_of_the_kind_of_the_same_line_in_the_log() -> None:
    assert kind_of("nginx: [alert] setsockopt(TCP_FASTOPEN, 3) failed") == kind_of(
        line("setsockopt(TCP_FASTOPEN, 5) failed")
    )
    assert (
        kind_of("error while loading shared libraries: libz.so.1")
        == ": error while loading shared libraries: libz.so.#"
    )


def test_an_exit_is_what_the_master_reports_not_a_text_that_a_client_chose() -> None:
    assert is_exit(line("worker process 92 exited on signal 11 (core dumped)"))
    assert is_exit(line("cache loader process 9 exited with fatal code 2 and cannot be respawned"))
    assert not is_exit(line('*5 open() "/html/worker process 92 exited on signal 11" failed (2: ENOENT)'))


def test_a_suggested_pattern_is_safe_between_single_quotes_in_a_sentence_with_backticks() -> None:
    assert suggested_pattern(line("setrlimit(RLIMIT_NOFILE, 131072) failed (1: EPERM)")) == (
        "setrlimit(RLIMIT_NOFILE, *) failed (1: EPERM)"
    )
    assert suggested_pattern(line("it's `so` \\ bad")) == "it*s *so* * bad"
    assert len(suggested_pattern(line("x" * 5000))) <= 100


def test_a_long_line_is_cut() -> None:
    assert len(shortened(line("x" * 5000))) < 400
    assert len(kind_of(line("x" * 5000))) <= 300


def test_the_most_lines_within_a_window_are_counted_at_any_place() -> None:
    lines = [line("x", at=at) for at in ("10:00:00", "11:59:58", "12:00:00", "12:00:00", "12:00:01", "13:30:00")]

    assert dict(zip(WINDOWS_S, most_within(lines), strict=True)) == {
        1: 2,
        3: 3,
        10: 4,
        30: 4,
        100: 4,
        300: 4,
        1_000: 4,
        3_000: 4,
        10_000: 5,
        30_000: 6,
        100_000: 6,
    }
