"""The shared options reach the visits, from the command line and from the environment."""

import pytest

from fleet.onhost.protocol import Ask
from tests.support.pretend.visits import NEW
from tests.support.shell import QUICK, Shell


def test_the_rate_limit_reaches_every_visit(shell: Shell) -> None:
    assert shell("upgrade", NEW, "-y", *QUICK, "--limit-rate", "500k") == 0

    staging = [task for task in shell.fleet.tasks if task.request.ask is Ask.STAGE]
    assert {task.connecting.limit_rate for task in staging} == {500 << 10}


def test_the_rate_limit_may_come_from_the_environment(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_LIMIT_RATE", "2M")

    assert shell("status") == 0

    assert {task.connecting.limit_rate for task in shell.fleet.tasks} == {2 << 20}
