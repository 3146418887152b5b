"""The order of the test modules: the long ones first, so that both workers of `make test` end at about the same time.

pytest-xdist gives a module to a worker in this order (`--dist loadfile --no-loadscope-reorder`). With a long module last,
one worker would run it while the other one waits.
"""

from pathlib import Path

import pytest

from tests.support.places import ROOT

LONG_MODULES = {
    "tests/test_stateful.py": 100,
    "tests/lab/test_going_back.py": 100,
    "tests/lab/test_bad_releases.py": 55,
    "tests/lab/test_lease.py": 75,
    "tests/lab/test_unit_follows.py": 60,
    "tests/lab/test_guard.py": 60,
    "tests/lab/test_watcher.py": 70,
    "tests/lab/test_walk_away.py": 60,
    "tests/lab/test_start_nginx.py": 35,
    "tests/lab/test_interrupt.py": 50,
    "tests/lab/test_matrix.py": 60,
    "tests/lab/test_unit_table.py": 60,
    "tests/lab/test_preflight.py": 55,
    "tests/lab/test_story.py": 50,
    "tests/lab/test_rehearsal.py": 45,
    "tests/lab/test_no_trace.py": 45,
    "tests/lab/test_known_lines.py": 45,
    "tests/lab/test_cures.py": 45,
    "tests/lab/test_own_hosts.py": 40,
    "tests/lab/test_rehearse_option.py": 40,
    "tests/lab/test_two_laptops.py": 45,
    "tests/lab/test_journal.py": 45,
    "tests/onhost/test_failure_modes.py": 45,
    "tests/lab/test_failure_modes.py": 40,
    "tests/ssh/test_visit.py": 40,
    "tests/ssh/remote/test_become.py": 35,
    "tests/lab/test_demo.py": 40,
    "tests/lab/test_moved_address.py": 30,
    "tests/lab/test_inventories.py": 30,
    "tests/lab/test_probes.py": 30,
    "tests/lab/test_hostile.py": 30,
    "tests/lab/releases/test_on_hosts.py": 30,
    "tests/lab/hosts/test_systemd.py": 30,
    "tests/lab/hosts/test_dpkg.py": 25,
    "tests/lab/test_ssh.py": 25,
    "tests/lab/test_lab.py": 25,
    "tests/lab/releases/test_build.py": 25,
    "tests/lab/traffic/test_load.py": 25,
}
"""About how many seconds a module takes on one of two idle cores. Only the order matters."""


def long_modules_first(items: list[pytest.Item]) -> None:
    """Sort tests by the length of their module; all others stay behind, in the order in which they were collected."""
    seconds = {ROOT / name: length for name, length in LONG_MODULES.items()}
    items.sort(key=lambda item: -seconds.get(Path(item.path), 0))
