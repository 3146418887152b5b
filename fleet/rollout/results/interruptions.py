"""The ends of a run before its plan was done: it was interrupted, taken over, or lost its journal."""

from fleet.events import Result
from fleet.onhost.protocol import Ask
from fleet.onhost.text import counted
from fleet.rollout.actions import Finish
from fleet.rollout.host_status import HostStatus, Progress
from fleet.rollout.results.codes import HALTED, INTERRUPTED, code, leases, line, names, needs_person, see_status
from fleet.rollout.rollout_status import RolloutStatus, Stage


def stopped(status: RolloutStatus, resumable: bool = False) -> Finish:
    """The run was interrupted, taken over or lost its journal. `resumable`: the journal knows what is still to do."""
    if status.taken_over is not None:
        text = f"Halted: {status.taken_over.rstrip('.')}. No further host was begun.{leases(status)}"
        person = needs_person(status) or f" See where the hosts are: {see_status(status)}."
        return Finish(Result.HALTED, code(status, HALTED), text + person)
    if status.journal_lost is not None:
        return _journal_lost(status, status.journal_lost)
    begun = _begun_and_not_back(status)
    if begun:
        text = f"Interrupted: {_begun_words(begun, status)}{leases(status)} {_next_commands(status)}"
        return Finish(Result.INTERRUPTED, INTERRUPTED, text)
    back = [host for host in status.all if host.progress is Progress.ROLLED_BACK]
    changed = f"{counted(len(back))} rolled back ({names(back)}), no other host" if back else "No host"
    resume = f" To continue: {line(status, 'resume')}." if resumable else ""
    return Finish(Result.INTERRUPTED, INTERRUPTED, f"Interrupted. {changed} was changed.{resume}")


def _begun_and_not_back(status: RolloutStatus) -> list[HostStatus]:
    return [host for host in status.all if _may_have_moved(host) and host.progress is not Progress.ROLLED_BACK]


def _journal_lost(status: RolloutStatus, why: str) -> Finish:
    """The journal can no longer be written. The hosts' own records still name their rollout."""
    repair = "Repair the journal, or name another one with `--journal FILE`."
    begun = _begun_and_not_back(status)
    if not begun:
        return Finish(Result.HALTED, code(status, HALTED), f"Halted: {why} No host was changed. {repair}")
    text = (
        f"Halted: {why} {_begun_words(begun, status)}{leases(status)} {repair} {_next_commands(status)} "
        "A rollback needs no journal."
    )
    return Finish(Result.HALTED, code(status, HALTED), text)


def _begun_words(begun: list[HostStatus], status: RolloutStatus) -> str:
    """`2 hosts begun (web-01, web-02), each in a resting phase.`"""
    unknown = [host for host in status.all if host.needs_person or (host.running and _may_have_moved(host))]
    rest = "each in a resting phase"
    if unknown:
        rest = f"not known to be at rest: {names(unknown)} (see {see_status(status)})"
    return f"{counted(len(begun))} begun ({names(begun)}), {rest}."


def _may_have_moved(host: HostStatus) -> bool:
    return host.begun or host.doing in (Ask.UPGRADE, Ask.COMMIT, Ask.ROLLBACK)


def _next_commands(status: RolloutStatus) -> str:
    """What to type after an interruption: it depends on the command that was interrupted."""
    rollback, commit, resume = (line(status, command) for command in ("rollback", "commit", "resume"))
    if status.stage is Stage.ROLLING_BACK:
        return f"To continue: {rollback}."
    if status.stage is Stage.COMMITTING and not any(host.progress is Progress.STAGED for host in status.all):
        return f"To continue: {resume if status.batch else commit}. To go back: {rollback}."
    held = any(host.held and not host.last.unanswered and host.running is None for host in status.all)
    keep = f" To commit the held hosts: {commit}." if held else ""
    return f"To continue: {resume}. To go back: {rollback}.{keep}"
