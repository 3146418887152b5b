"""One request and its instance: what every answer to it needs."""

from typing import Callable, NamedTuple, Optional

from fleet.onhost.instance import Instance
from fleet.onhost.observation import Observation
from fleet.onhost.preflight.result import PreflightResult
from fleet.onhost.protocol import FORWARD_STEPS, Finding, Outcome, Record, Reply, ReplyType, Request, Step
from fleet.onhost.steps.context import StepContext
from fleet.onhost.visit.end import End, ended
from fleet.onhost.visit.heartbeat import fenced

Say = Callable[[Reply], None]
Preflight = Callable[[Instance, Request, Observation, Optional[str]], PreflightResult]


def _preflight(instance: Instance, request: Request, seen: Observation, staged: Optional[str]) -> PreflightResult:
    """The host's own preflight. A rollback, a commit and a bake do without it and all that it loads."""
    from fleet.onhost.preflight import checks

    return checks.preflight(instance, request, seen, staged)


class Visit(NamedTuple):
    """One request and its instance.

    `say` sends a reply to the controller, `go_on` raises `TurnedBack` when nothing new should begin. `preflight` is the
    host's own, unless a test runs the visit on a model of nginx.
    """

    instance: Instance
    request: Request
    say: Say
    go_on: Callable[[], None]
    preflight: Preflight = _preflight

    def find(self, finding: Finding) -> None:
        """Send the finding to the operator."""
        self.say(
            Reply(
                ReplyType.FINDING,
                reason=finding.reason,
                message=finding.message,
                remedy=finding.remedy,
                severity=finding.severity,
                overridable=finding.overridable,
            )
        )

    def fenced(self, epoch: int) -> "Visit":
        """This visit, but `go_on` also raises `TurnedBack` once another rollout has taken the host over."""
        return self._replace(go_on=fenced(self.instance.own, self.request.rollout, epoch, self.go_on))

    def context(self, record: Record, target: str) -> StepContext:
        """What the steps of this visit need."""
        return StepContext(self.instance, record, target, self.request.options, self.find, self.go_on)

    def take(self, step: Step, act: Callable[[], End]) -> End:
        """Take the step, and report it to the host's journal and to the controller before and after. Returns how it ended.

        A forward step whose intent can't be written does not begin: a full disk stops an upgrade, never a way back.
        """
        machine, note = self.instance.machine, self.instance.note
        began_s = machine.monotonic_s()
        written = note(intent=step.value, rollout=self.request.rollout)
        if not written and step in FORWARD_STEPS:
            return ended(Outcome.REFUSED, "journal_unwritable", folder=self.instance.own.folder)
        self.say(Reply(ReplyType.STEP_STARTED, step=step))
        end = act()
        took_s = machine.monotonic_s() - began_s
        note(result=step.value, outcome=end.outcome.value, reason=end.reason, message=end.message)
        self.say(end.step_reply(step, took_s))
        return end
