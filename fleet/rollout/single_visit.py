"""Decides for commands that visit each host once and change nothing that runs: check, status and unlock. Pure."""

from datetime import datetime

from fleet.events import EventType, Result
from fleet.onhost.protocol import Ask
from fleet.onhost.text import counted
from fleet.rollout import results
from fleet.rollout.actions import Action, Emit, Finish, visits_to, within_parallel
from fleet.rollout.host_status import was_not_asked
from fleet.rollout.rollout_status import RolloutStatus, Stage


def decide_single_visit(
    ask: Ask, parallel: int, status: RolloutStatus, now: datetime, *, is_staged: bool = True
) -> tuple[Action, ...]:
    """One visit to each host. `is_staged` is `False` for a check that does not bring the release to the hosts."""
    if status.stopping:
        return () if status.busy else (results.stopped(status),)
    if status.stage is Stage.STARTING:
        return (Emit(EventType.STAGE_STARTED, message=f"asking {counted(len(status.hosts))}"),)
    remaining, free = was_not_asked(ask), parallel - status.busy
    if status.busy or status.host_map.count(remaining):
        return within_parallel(visits_to([remaining], ask, status, now, free), status, parallel)
    return (_checked(status, is_staged) if ask is Ask.STAGE else _answered(status),)


def _checked(status: RolloutStatus, is_staged: bool) -> Finish:
    if status.faults:
        return results.refused(status)
    count = counted(len(status.hosts))
    if is_staged:
        upgrade = status.typed.after_check("upgrade")
        return Finish(Result.COMPLETED, results.OK, f"{count} can be upgraded: {upgrade.quoted}.")
    text = (
        f"Preflight passed on {count}; the release was not staged. Hosts without a copy of it have not rehearsed it: "
        f"{status.typed.after_check('check').quoted} does."
    )
    return Finish(Result.COMPLETED, results.OK, text)


def _answered(status: RolloutStatus) -> Finish:
    missing = [host for host in status.all if host.report is None]
    if missing:
        text = (
            f"{results.some_of(len(missing), status)} did not answer: {results.names(missing)}; the reasons are above."
        )
        return Finish(Result.HALTED, results.PERSON, text)
    return Finish(Result.COMPLETED, results.OK, f"{counted(len(status.hosts))} answered.")
