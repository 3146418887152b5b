"""The end of a commit that was left to the host: its watcher retires the old master once the last old worker has gone.

It is the walk of a commit, under the lock and behind the fence, so it verifies what a commit verifies: a new master that
no longer serves, or an old one that a reload has revived, is found before any signal is sent.
"""

from fleet.onhost.instance import Instance
from fleet.onhost.protocol import MAY_DO, PROTOCOL, Ask, Outcome, Phase, Reply, ReplyType, Request, State
from fleet.onhost.state import retirement
from fleet.onhost.state.fence import TakenOver, check
from fleet.onhost.state.retirement import Retirement
from fleet.onhost.state.store import InstanceStore
from fleet.onhost.text import counted, sentences
from fleet.onhost.visit.answer import finish
from fleet.onhost.visit.end import End, ended
from fleet.onhost.visit.request import Visit

LOCK_WAIT_S = 30.0
HOPELESS = ("bad_record", "down", "foreign", "release_lost", "taken_over", "went_back")
"""The reasons that a second try does not change."""
GIVEN_UP = (
    "The old master is not retired: %s still drain, and the %.0f s for it are over. `fleet commit` waits for them, `fleet "
    "commit --cut` closes them."
)
FAILED = "The old master is not retired, which was left to the host: %s"


def retire_by_itself(own: InstanceStore, is_last: bool) -> bool:
    """Retire the old master if that is due under the lock, too. Whether to try again: not after the last try.

    Raises `Busy` while a visit is at work, OSError, `Malformed`.
    """
    with own.lock(LOCK_WAIT_S):
        layout = own.layout
        if layout is None:  # Nothing was ever begun here.
            retirement.end(own)
            return False
        return retire_if_due(Instance.at(own.machine, layout)._replace(kept=own), is_last)


def retire_if_due(instance: Instance, is_last: bool) -> bool:
    """As `retire_by_itself`, under its lock."""
    own, record = instance.own, instance.record
    found = retirement.in_force(own)
    if found is None or (retirement.due_in_s(own) or 0.0) > 0.0:
        return False
    if record is None or record.rollout != found.rollout or record.state is not State.BEGUN:
        retirement.end(own)  # Committed, rolled back, or another rollout's by now.
        return False
    is_out = retirement.left_s(own) == 0.0
    end = _walked(instance, found, cut=is_out and found.options.cut)
    seen = instance.look()
    draining = seen.masters[0].draining if len(seen.masters) == 2 else ()
    if end.reason == "drain_pending" and not is_out:
        retirement.wait_for(own, found, draining)
        return False
    if end.outcome is not Outcome.DONE and end.reason not in HOPELESS and not (is_last or is_out):
        return True
    why = ""
    if end.reason == "drain_pending":
        why = GIVEN_UP % (counted(len(draining), "old worker"), found.within_s)
    elif end.outcome is not Outcome.DONE and end.reason != "taken_over":
        why = FAILED % sentences(end.message, end.remedy)
    _tell(instance, found, end, why)
    return False


def _walked(instance: Instance, found: Retirement, cut: bool) -> End:
    """How the commit ended. Its findings are in the host's journal: nobody listens."""
    own = instance.own
    request = Request(
        PROTOCOL,
        Ask.COMMIT,
        found.rollout,
        found.epoch,
        "the host, left to it by %s" % found.operator,
        None,
        MAY_DO[Ask.COMMIT],
        instance.layout,
        found.options._replace(drain_timeout_s=0.0, cut=cut, retire_within_s=0.0),
        left_at=Phase.TRIAL,
        sender=found.sender,
    )

    def say(reply: Reply) -> None:
        if reply.type is ReplyType.FINDING:
            instance.note(finding=reply.reason, message=reply.message)

    try:
        check(own, found.rollout, found.epoch)
    except TakenOver as error:
        return ended(Outcome.REFUSED, "taken_over", by=error)
    instance.note(retirement="due", rollout=found.rollout)
    return finish(Visit(instance, request, say, lambda: None).fenced(found.epoch))


def _tell(instance: Instance, found: Retirement, end: End, why: str) -> None:
    """The retirement is over: say it in the host's journal and syslog, and in its record where the host stays held."""
    own = instance.own
    retirement.end(own)
    record = own.record
    if why and record is not None:
        own.write_record(record._replace(why=why))
    instance.note(retirement="ended", outcome=end.outcome.value, reason=end.reason, message=why or end.message)
    words = why or end.message or "the old master was retired"
    instance.machine.syslog("the retirement of rollout %s: %s %s" % (found.rollout, end.outcome.value, words))
