"""The live view of a rollout, of a size that fits the screen for six hosts as for two hundred.

`view` is a pure function of status, time and size: a headline, the counts, one letter per host with its key, and a row for
each host that is running or has failed. Colours repeat what the letters say.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import groupby

from rich.console import Group, RenderableType
from rich.text import Text

from fleet.onhost.protocol import Ask, Phase
from fleet.onhost.text import counted, safe
from fleet.rollout.host_status import HostStatus, Progress
from fleet.rollout.rollout_status import RolloutStatus, Stage
from fleet.ui.host_text import elapsed, not_begun, outcome_text

LETTERS = {
    "!": "needs a person",
    "x": "failed",
    "*": "running",
    "T": "held",
    "N": "new",
    "<": "rolled back",
    "-": "left alone",
    "s": "staged",
    "·": "waiting",
}
"""The letters of the grid with their meaning; the most important one first, in case the key is too long for a line."""


def view(status: RolloutStatus, now: datetime, width: int, height: int) -> Group:
    """The view in at most `height` lines of at most `width` columns."""
    cells = [_cell(host) for host in status.all]
    grid = _grid(cells, width)
    most_grid = max(height // 3, 1)
    lines: list[RenderableType] = [_headline(status, now, width), _counts(status, width), *grid[:most_grid]]
    if len(grid) > most_grid:
        lines.append(Text("…", no_wrap=True))
    lines.append(_line(_key({letter for letter, _ in cells}), width, "dim"))
    rows = list(status.host_map.where(_has_row))
    rows.sort(key=lambda host: (not _needs_person(host), host.running is None, host.name))
    room = max(height - len(lines) - 1, 0)
    lines.extend(_row(host, now, width) for host in rows[:room])
    if len(rows) > room:
        lines.append(_line(f"… and {counted(len(rows) - room, 'more host')}", width, "dim"))
    return Group(*lines[:height])


def _line(text: str, width: int, style: str = "") -> Text:
    found = Text(text, style=style, no_wrap=True, overflow="ellipsis")
    found.truncate(width, overflow="ellipsis")
    return found


def _headline(status: RolloutStatus, now: datetime, width: int) -> Text:
    doing = status.stage.value
    if status.stage in (Stage.UPGRADING, Stage.BAKING, Stage.JUDGED):
        doing += f" batch {status.batch} of {len(status.batches)}"
    if status.stage is Stage.BAKING and status.closed_at is not None:
        doing += f" ({_seconds(now - status.closed_at)})"
    since = f" · total {_seconds(now - status.started_at)}" if status.started_at else ""
    stopping = " · STOPPING" if status.stopping else ""
    return _line(f"rollout {status.rollout} · {doing}{since}{stopping}", width, "bold")


def _seconds(span: timedelta) -> str:
    return elapsed(span.total_seconds())


def _counts(status: RolloutStatus, width: int) -> Text:
    """The number of hosts by outcome. A host in its first upgrade is not finished, but not "not begun" either."""
    upgrading = status.host_map.count(_is_upgrading)
    counts = status.counts
    counts["not_begun"] -= upgrading
    total, done = counts.pop("hosts"), counts.pop("done")
    others = {"upgrading": upgrading, **counts}
    parts = [f"{count} {name.replace('_', ' ')}" for name, count in others.items() if count]
    return _line(" · ".join([f"{done} of {total} done", *parts]), width)


def _is_upgrading(host: HostStatus) -> bool:
    return host.running is not None and host.running.ask is Ask.UPGRADE and host.fault is None and not_begun(host)


def _has_row(host: HostStatus) -> bool:
    return host.running is not None or host.fault is not None or _needs_person(host)


def _key(shown: set[str]) -> str:
    """The meaning of the letters that the grid shows now."""
    return "  ".join(f"{letter} {meaning}" for letter, meaning in LETTERS.items() if letter in shown)


def _grid(cells: Sequence[tuple[str, str]], width: int) -> list[Text]:
    rows = [cells[begin : begin + width] for begin in range(0, len(cells), max(width, 1))]
    return [_grid_line(row) for row in rows]


def _grid_line(cells: Iterable[tuple[str, str]]) -> Text:
    """The letters, those of one kind in one piece: rich's work grows with the number of pieces."""
    line = Text("", no_wrap=True)
    for (letter, style), alike in groupby(cells):
        line.append(letter * sum(1 for _ in alike), style)
    return line


def _cell(host: HostStatus) -> tuple[str, str]:
    if host.running is not None:
        return "*", "yellow"
    if _needs_person(host):
        return "!", "bold red"
    if host.fault is not None:
        return "x", "red"
    match host.progress:
        case Progress.UPGRADED | Progress.COMMITTED | Progress.RAN_ALREADY:
            return ("T", "cyan") if host.phase is Phase.TRIAL else ("N", "green")
        case Progress.ROLLED_BACK:
            return "<", "blue"
        case Progress.LEFT_ALONE:
            return "-", "dim"
        case Progress.STAGED:
            return "s", "dim"
        case _:
            return "·", "dim"


def _needs_person(host: HostStatus) -> bool:
    """Whether the host needs a person, as far as it was asked yet."""
    return host.needs_person and not host.is_unasked


def _row(host: HostStatus, now: datetime, width: int) -> Text:
    if host.running is not None:
        step = f" {host.running.step.value}" if host.running.step else ""
        since = _seconds(now - host.running.started_at)
        return _line(f"  {safe(host.name)}: {host.running.ask.value}{step} {since}", width, "yellow")
    message = f": {safe(host.last.message)}" if host.last.message else ""
    return _line(f"  {safe(host.name)}: {outcome_text(host)}{message}", width, "red")
