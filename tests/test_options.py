"""What the options become that are more than words."""

import pytest
import rich_click as click

from fleet.onhost.protocol import Ask
from fleet.options import ByteRate
from tests.support.pretend.visits import NEW
from tests.support.shell import QUICK, Shell


@pytest.mark.parametrize(
    ("text", "bytes_per_s"),
    [("1000", 1000), ("500k", 500 << 10), ("2M", 2 << 20), ("1.5m", 3 << 19), ("1G", 1 << 30), ("800B", 800)],
)
def test_a_rate_is_written_as_for_other_tools(text: str, bytes_per_s: float) -> None:
    assert ByteRate().convert(text, None, None) == bytes_per_s


@pytest.mark.parametrize("text", ["", "0", "0k", "-5k", "fast", "1 M", "1T", "1e3", "1/s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="500k"):
        ByteRate().convert(text, None, None)


def test_the_limit_reaches_every_visit(shell: Shell) -> None:
    assert shell("upgrade", NEW, "-y", *QUICK, "--limit-rate", "500k") == 0

    staging = [task for task in shell.fleet.tasks if task.request.ask is Ask.STAGE]
    assert {task.connecting.limit_rate for task in staging} == {500 << 10}


def test_the_limit_may_come_from_the_environment(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_LIMIT_RATE", "2M")

    assert shell("status") == 0

    assert {task.connecting.limit_rate for task in shell.fleet.tasks} == {2 << 20}


def test_help_says_how_scp_is_meant(shell: Shell) -> None:
    shell("upgrade", "--help")

    assert "what scp itself uses today" in " ".join(shell.out.replace("│", " ").split())
