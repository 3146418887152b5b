"""The messages that an operator must not miss, in a frame: a host showed a key that must not be accepted."""

from collections.abc import Iterable

from rich.text import Text

from fleet.events import Alarm
from fleet.onhost.text import listed, safe, sentences
from fleet.rollout.rollout_status import RolloutStatus

BAR = "!" * 100


def framed(lines: Iterable[str]) -> Text:
    """The lines between two bars, in red."""
    return Text("\n".join((BAR, *map(safe, lines), BAR)), style="bold red")


def alarm(messages: Iterable[tuple[str, str]]) -> Text | None:
    """A frame with each message once, behind the names of its hosts; `messages` holds (name, message). `None` for none."""
    lines = grouped_by_message(messages)
    return framed(lines) if lines else None


def alarms(status: RolloutStatus) -> Text | None:
    """The alarms of all hosts in one frame, for the end of a run; `None` when there is none."""
    messages = []
    for host in status.all:
        if Alarm.of(host.last.reason) is not None:
            messages.append((host.name, sentences(host.last.message, host.last.remedy)))
        elif host.fault is not None and Alarm.of(host.fault.reason) is not None:
            messages.append((host.name, sentences(host.fault.message, host.fault.remedy)))
    return alarm(messages)


def grouped_by_message(messages: Iterable[tuple[str, str]]) -> list[str]:
    """A line for each message, behind the names of all hosts that gave it; `messages` holds (name, message)."""
    names_of: dict[str, list[str]] = {}
    for name, message in messages:
        names_of.setdefault(message, []).append(name)
    return [f"{listed(names)}: {message}" for message, names in names_of.items()]
