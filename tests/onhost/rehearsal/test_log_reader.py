import pytest

from fleet.onhost.rehearsal.log_reader import by_others, counts

DATED = "2026/12/01 02:27:24 [%s] 10#10: %s"


@pytest.mark.parametrize(
    ("line", "does"),
    [
        (DATED % ("alert", "worker process 12 exited on signal 4"), True),
        (DATED % ("notice", "worker process 12 exited on signal 11"), True),
        (DATED % ("emerg", "bind() to 0.0.0.0:80 failed (98: Address already in use)"), True),
        (DATED % ("crit", '*1 open() "/x" failed (13: Permission denied), client: 127.0.0.1'), False),
        (DATED % ("alert", "connect() failed (2: No such file or directory)"), False),
        (DATED % ("alert", "connect() failed (101: Network is unreachable)"), False),
        (DATED % ("alert", "send() failed (111: Connection refused)"), False),
        (DATED % ("alert", "sched_setaffinity() failed (22: Invalid argument)"), True),
        (DATED % ("error", "something"), False),
        (DATED % ("warn", "the user directive makes sense only if the master is root"), False),
    ],
)
def test_grave_lines_and_exits_count(line: str, does: bool) -> None:
    assert counts(line, is_main=False) is does


@pytest.mark.parametrize(
    ("line", "does"),
    [
        ("nginx: error while loading shared libraries: libz.so.1: cannot open shared object file", True),
        ("nginx: [emerg] unknown directive", True),
        ("nginx: [warn] conflicting server name", False),
        ("", False),
        ('127.0.0.1 - - "GET / HTTP/1.1" 200', True),
    ],
)
def test_a_line_without_a_date_counts_only_in_the_main_log(line: str, does: bool) -> None:
    assert counts(line, is_main=True) is does
    assert counts(line, is_main=False) is False


def test_what_the_old_generation_writes_when_it_leaves_is_not_the_new_one_s() -> None:
    lines = ["2026/11/23 10:00:00 [alert] 81#81: *3 open socket #9 left in connection 4", "a line of a library"]

    assert by_others(lines, [80, 81]) == ("a line of a library",)
    assert by_others(lines, [80]) == tuple(lines)
