"""The probes in the steps: which of them count, and what a failure on the new release is compared with.

A probe speaks against a release only if the other one answers it right, on this host, at the same time. What the release
that serves answers before `launch` decides which probes count at all (`Record.uncounted`); while workers of both accept,
a failure on the one is asked of the other, too.
"""

from typing import FrozenSet, Optional, Tuple

from fleet.onhost.nginx.probe import Answer, ask
from fleet.onhost.observation import Master
from fleet.onhost.protocol import Probe
from fleet.onhost.reasons.catalogue import is_allowed
from fleet.onhost.steps.context import StepContext, StepFailed, StepRefused

BOTH_FAIL_S = 10.0
BOTH_POLL_S = 0.5
RIGHT = "The other release answers it as it should"
NOT_COMPARED = "The other release has no accepting worker, so it was not asked"


def counted(context: StepContext) -> Tuple[Probe, ...]:
    """The probes that count in this rollout: those that the release before answered as it should."""
    uncounted = (context.own.record or context.record).uncounted
    return tuple(probe for probe in context.options.probes if probe not in uncounted)


def ask_before_launch(context: StepContext, serving: Master) -> None:
    """Ask the release that serves, and note which probes it fails: those do not count.

    Preflight has asked them, too, and the operator may have allowed a failure. Raises `StepRefused` for one that began
    since. The way back to the release before waits for no answer of the one that it leaves.
    """
    workers = [worker.pid for worker in serving.accepting]
    if _goes_back(context) or not workers:
        return
    failed = []
    for number, probe in enumerate(context.options.probes):
        answer = ask(context.machine, probe, workers)
        if not answer.problem:
            continue
        if not is_allowed("probe_fails_already", context.options.allow):
            raise StepRefused("probe_fails_already", number=number, problem=answer.problem, advice=answer.advice)
        context.warn("probe_not_counted", number=number, problem=answer.problem)
        failed.append(probe)
    if tuple(failed) != (context.own.record or context.record).uncounted:
        context.amend(lambda record: record._replace(uncounted=tuple(failed)))


def must_answer(context: StepContext, workers: FrozenSet[int]) -> None:
    """One of these workers answers every probe that counts as it should. Raises `StepFailed`."""
    for probe in counted(context):
        answer = ask(context.machine, probe, workers)
        if answer.problem:
            _compare(context, answer, workers)


def _compare(context: StepContext, answer: Answer, workers: FrozenSet[int]) -> None:
    """Wait for a cause that both releases suffer from (an upstream that restarts) to end; the way back does not wait.

    Raises `StepFailed` if the other release answers right, or can't be asked, or if both still fail after `BOTH_FAIL_S`.
    """
    began, other = answer, _other(context, answer.probe, workers)
    if other is None or not other.problem:
        raise _failure(answer, other)
    theirs, until = other.problem, context.machine.monotonic_s() + BOTH_FAIL_S
    while answer.problem and not _goes_back(context):
        if context.machine.monotonic_s() >= until:
            raise StepFailed("probe_fails_on_both", problem=answer.problem, other=theirs)
        context.go_on()
        context.machine.pause(BOTH_POLL_S)
        # The other one first: what it answers right, the new one has the time to answer right, too.
        other = _other(context, answer.probe, workers)
        answer = ask(context.machine, answer.probe, workers)
        if answer.problem and (other is None or not other.problem):
            raise _failure(answer, other)
    context.warn("probe_no_evidence", problem=began.problem, other=theirs)


def _goes_back(context: StepContext) -> bool:
    return context.target == context.record.before_process


def _other(context: StepContext, probe: Probe, workers: FrozenSet[int]) -> Optional[Answer]:
    """What the workers of the other master answer; `None` when it has none that accept."""
    every = {worker.pid for master in context.look().masters for worker in master.accepting}
    others = every - workers
    return ask(context.machine, probe, others) if others else None


def _failure(answer: Answer, other: Optional[Answer]) -> StepFailed:
    """The failure of a probe that the other release answers right, or that it can't be asked."""
    compared = NOT_COMPARED if other is None else RIGHT
    if answer.by is None:
        return StepFailed("workers_silent", problem=answer.problem, compared=compared)
    return StepFailed("probe_failed", problem=answer.problem, compared=compared)
