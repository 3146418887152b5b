"""The unit table as a page: what each cell showed; kinds that showed the same share a row."""

from collections.abc import Iterable, Mapping, Sequence

from tests.support.lab.unit_cells import ACTIONS, MANNERS, TWO_MASTERS, Action, Cell, State
from tests.support.lab.unit_shown import Shown, problems

INTRODUCTION = """\
# What outsiders do to nginx's unit, and what becomes of it

Each row was played on real hosts whose PID 1 is systemd, under a client with 20 new connections a second and one kept
connection. First fleet brings the host into the state that the section names. Then somebody who is not fleet does what
the row says. [systemd.md](systemd.md) explains what systemd does there; `fleet lab kinds` lists the kinds of hosts.

The columns: requests *lost* between the action and the look at its result; what *systemctl* said (its exit code); nginx's
unit as `systemctl show` has it then (*MainPID*, *ActiveState*, how often *Restart=* started nginx again); what *fleet
status* says (the phase, and whether the unit is guarded), and whether nginx *serves*; how many downloads a stop *cut*, where
one was on its way; the phase in which the host was in the end, after the operator typed `fleet rollback` (or, where nginx was
gone, first the line that status prints).

The *old master* runs what the host ran at first, the *new master* the release that fleet has brought. Three kinds that have
Debian's unit with other settings play six of the rows.

On a host that fleet has left (rolled back, committed) nothing may be worse than in the section of the hosts that fleet
never touched. On a held host a guarded unit refuses every stop, and no request is lost but to a power cut. While nginx
lives, MainPID is a master that lives. A row that breaks one of these rules is marked.
"""
REFUSAL = "Operation refused"
"""Of what systemd says when a guarded unit is to be stopped: the rest is long and always the same."""
HEAD = "| action | kinds of hosts | lost | systemctl | MainPID, unit | status | afterwards |"


def page(results: Mapping[tuple[Cell, str], Shown], commit: str) -> str:
    """The whole page, in Markdown."""
    bad = sum(bool(_problems(results, cell, kind)) for cell, kind in results)
    asked = sum(shown.asked for shown in results.values())
    made = f"Made from commit {commit}: {len(results)} cells, {bad} of them wrong; {asked} requests."
    sections = [line for state in State for line in _section(results, state)]
    return "\n".join([INTRODUCTION, made, *sections, ""])


def _section(results: Mapping[tuple[Cell, str], Shown], state: State) -> Iterable[str]:
    rows = [row for action in ACTIONS[state] for row in _rows(results, Cell(state, action))]
    if rows:
        yield from ("", f"## {state.value.capitalize()}", "", HEAD, "|---" * 7 + "|", *rows)


def _rows(results: Mapping[tuple[Cell, str], Shown], cell: Cell) -> Iterable[str]:
    """Kinds that differ in nothing but in how many requests they lost are in one row."""
    alike: dict[tuple[tuple[str, ...], int], list[Shown]] = {}
    for kind in MANNERS:
        shown = results.get((cell, kind))
        if shown is not None:
            alike.setdefault((_seen(shown, _problems(results, cell, kind)), shown.cut), []).append(shown)
    for (columns, _), same in alike.items():
        kinds = ", ".join(one.kind for one in same)
        yield f"| {cell.action.value} | {kinds} | {_lost(same)} | {' | '.join(columns)} |"


def _seen(shown: Shown, found: Sequence[str]) -> tuple[str, ...]:
    typed = shown.cell.action not in (Action.KILL_NEW, Action.KILL_OLD, Action.KILL_ONLY, Action.POWER, Action.LEASE)
    line = REFUSAL if REFUSAL in shown.said else shown.said
    said = f"{shown.code}{': ' + line if line else ''}" if typed else "-"
    unit = f"{shown.main.value}; {shown.active}" + (f"; {shown.restarts} restarts" if shown.restarts else "")
    guard = ", guarded" if shown.guard else ""
    serves = "serves" if shown.serves else "does not serve"
    status = f"{shown.phase}{guard}; {serves}"
    wrong = f" **WRONG: {'; '.join(found)}**" if found else ""
    note = f"{shown.note}; " if shown.note else ""
    return _plain(said), unit, status, _plain(f"{note}{shown.ended or '-'}{wrong}")


def _lost(same: Sequence[Shown]) -> str:
    lost = sorted(one.lost for one in same)
    asked = sum(one.asked for one in same)
    cut = max(one.cut for one in same)
    span = str(lost[0]) if lost[0] == lost[-1] else f"{lost[0]}-{lost[-1]}"
    return f"{span} ({asked} asked{f', {cut} cut' if cut else ''})"


def _plain(text: str) -> str:
    """Text inside a table."""
    return " ".join(text.replace("|", "&#124;").split())


def _problems(results: Mapping[tuple[Cell, str], Shown], cell: Cell, kind: str) -> list[str]:
    return problems(results[cell, kind], control_of(results, cell, kind))


def control_of(results: Mapping[tuple[Cell, str], Shown], cell: Cell, kind: str) -> Shown | None:
    """The same action on an untouched host of this kind, if it was played."""
    if cell.state is State.UNTOUCHED:
        return None
    is_guarded_kind = MANNERS[kind].guards
    if cell.state in TWO_MASTERS and is_guarded_kind:
        return None
    return results.get((Cell(State.UNTOUCHED, cell.action), kind))
