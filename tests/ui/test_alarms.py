"""A changed host key is shown in a frame, in every output mode."""

import pytest

from fleet.events import Event, EventType
from fleet.onhost.protocol import Ask, Outcome
from fleet.rollout.rollout_status import RolloutStatus
from fleet.task import HostOutcome
from fleet.ui.output import output_for
from tests.support.pretend.visits import AT, NEW
from tests.support.screens import Screen
from tests.support.shell import QUICK, Shell

SAID = "THE HOST KEY OF [192.0.2.2]:2222 HAS CHANGED: it shows ssh-ed25519 SHA256:new, known is ssh-ed25519 SHA256:old (/kh:7)."
CHANGED = HostOutcome("", Outcome.UNREACHABLE, "host_key_changed", SAID, "Ask who changed it.")
BAR = "!" * 100
EVERY_COMMAND = pytest.mark.parametrize(
    "words",
    [
        ("check", NEW),
        ("check", NEW, "--json"),
        ("check", NEW, "--output", "jsonl"),
        ("upgrade", NEW, "-y", *QUICK),
        ("upgrade", NEW, "-y", *QUICK, "--output", "jsonl"),
        ("status",),
        ("status", "--json"),
        ("unlock",),
    ],
    ids=" ".join,
)


def frames(text: str) -> list[str]:
    """What stands between two bars."""
    return text.split(BAR)[1::2]


@EVERY_COMMAND
def test_a_changed_key_ends_the_output_with_both_fingerprints_and_the_line(
    shell: Shell, words: tuple[str, ...]
) -> None:
    for ask in (Ask.STAGE, Ask.LOOK):
        shell.fleet.outcomes["web-02", ask].extend([CHANGED] * 9)

    assert shell(*words) == (2 if words[0] in ("check", "upgrade") else 4)

    last = frames(shell.err)[-1]
    assert last.strip() == f"web-02: {SAID} Ask who changed it."
    if words[0] != "unlock":
        assert shell.err.rstrip().endswith(BAR)


@pytest.mark.parametrize("command", ["check", "upgrade"])
def test_a_changed_key_is_also_framed_when_it_is_found(shell: Shell, command: str) -> None:
    shell.fleet.outcomes["web-02", Ask.STAGE].extend([CHANGED] * 9)

    shell(command, NEW, *(["-y", *QUICK] if command == "upgrade" else []))

    first, last = frames(shell.err)
    assert SAID in first
    assert first.strip()[:2].isdigit()  # the time of day
    assert SAID in last


def test_the_changed_key_of_a_bastion_is_shown_once_for_all_hosts_behind_it(shell: Shell) -> None:
    for name in ("web-01", "web-02", "web-03"):
        shell.fleet.outcomes[name, Ask.STAGE].extend([CHANGED] * 9)

    shell("check", NEW)

    first, last = frames(shell.err)
    assert first.count(SAID) == 1
    assert last.strip() == f"web-01, web-02, web-03: {SAID} Ask who changed it."


def test_without_an_alarm_nothing_is_framed(shell: Shell) -> None:
    assert shell("status") == 0
    assert BAR not in shell.err


def test_the_live_view_keeps_each_alarm_on_the_screen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    screen = Screen(True)
    status = RolloutStatus("r-1")
    ended = [
        Event(AT, "r-1", EventType.VISIT_ENDED, host=host, outcome=Outcome.UNREACHABLE, reason=reason, message=message)
        for host, reason, message in (
            ("web-01", "timed_out", "no answer"),
            ("web-02", "host_key_changed", SAID),
            ("web-02", "host_key_changed", SAID),
            ("web-03", "host_key_revoked", "web-03 shows a host key that is revoked"),
        )
    ]

    with output_for(Screen(False), screen, "live").progress() as (observers, _):
        for event in ended:
            for observe in observers:
                observe(event, status)

    shown = screen.getvalue()
    assert shown.count("HAS CHANGED") == 1
    assert shown.count("a host key that is revoked") == 1
    assert "no answer" not in shown
    assert shown.count(BAR) == 4
    assert "\x1b[1;31m" in shown
