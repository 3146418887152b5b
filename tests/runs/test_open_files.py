import subprocess
import sys

import pytest

from fleet.runs.open_files import A_KEPT, A_VISIT, OWN, Room, files_of, room
from tests.support.places import ROOT

WANTED = Room(100, 100)


def test_all_of_it_fits_into_the_usual_limit() -> None:
    assert files_of(WANTED) < 1024
    assert room(WANTED, 1024) == WANTED


def test_fewer_connections_are_kept_before_fewer_visits_run() -> None:
    found = room(WANTED, files_of(WANTED) - 3)

    assert found[:2] == (100, 98)


@pytest.mark.parametrize("limit", [0, OWN, OWN + A_VISIT, 100, 200, 400, 800])
def test_what_is_left_fits_and_one_visit_is_always_left(limit: int) -> None:
    parallel, keep_open, note = room(WANTED, limit)

    assert (parallel, keep_open) == (1, 0) or OWN + A_VISIT * parallel + A_KEPT * keep_open <= limit
    assert parallel >= 1
    assert f"ulimit -n {files_of(WANTED)}" in note


def in_a_process(limits: str, *wanted: int) -> str:
    """What `make_room` gives in a process with these limits, and its limit afterwards."""
    code = (
        "import resource; from fleet.runs.open_files import make_room; "
        f"print(*make_room(*{wanted})[:2], resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    shell = f'{limits}; exec "$0" -c "$1"'
    return subprocess.run(
        ["/bin/sh", "-c", shell, sys.executable, code], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_limit_is_raised_as_far_as_needed() -> None:
    assert in_a_process("ulimit -S -n 128", 1000, 100, 100) == f"100 100 {files_of(WANTED)}"


def test_a_few_hosts_need_no_more_than_there_is() -> None:
    assert in_a_process("ulimit -S -n 128", 3, 100, 100) == "3 3 128"


def test_where_it_can_not_be_raised_fewer_hosts_are_visited_at_a_time() -> None:
    assert in_a_process("ulimit -n 128", 1000, 100, 100) == "10 2 128"
