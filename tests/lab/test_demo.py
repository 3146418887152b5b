"""`fleet demo` does what it prints, and leaves nothing on the machine."""

import subprocess
from collections.abc import Callable

from fleet.lab.lab import Lab
from tests.support.lab.operator import FLEET, environment


def test_the_demo_keeps_its_promises_and_leaves_no_lab(lab_name: Callable[[], str]) -> None:
    name = lab_name()

    done = subprocess.run(
        [*FLEET, "demo", "--name", name],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        env=environment(),
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "BROKEN" not in done.stdout
    assert done.stdout.count("kept  ") == 11, done.stdout
    table = done.stdout.splitlines()[-7:]
    assert table[0].split()[:2] == ["host", "phase"]
    assert [line.split()[1] for line in table[1:]] == ["OLD"] * 6
    assert Lab.find(name) is None
