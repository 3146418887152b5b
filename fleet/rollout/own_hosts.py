"""Which of the hosts that a command looked at belong to a rollout: those of its plan, and those whose record names it.

- A host that was never in the rollout is left alone, whether it answers or not.
- The journal that began a rollout has its whole plan. A run of another journal may have added hosts since; they say so
  themselves. Once one does, or no journal here has the plan, a silent host may be one of them.
- The start of a visit is in the journal before the visit begins. So a host that the journal has no such start of was never
  begun, and if it is silent there is nothing to do.
- One nginx counts once, whatever the inventory calls it.

Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fleet.events import Event, EventType
from fleet.onhost.protocol import Ask, Record, Report, State
from fleet.rollout.host_status import HostStatus
from fleet.rollout.rollout_status import RolloutStatus

FORWARD = frozenset({"upgrade", "resume"})
"""The commands whose runs have a plan."""
NEVER_BEGINS = frozenset({Ask.LOOK.value, Ask.STAGE.value, Ask.UNLOCK.value})
"""The visits that a rollout begins no host with."""
READ_TO_SEE_A_BEGINNING = (EventType.ROLLOUT_STARTED, EventType.HOST_KNOWN, EventType.VISIT_STARTED)
"""The events that say which hosts a rollout may have begun. Without the ends of visits they are read in a moment."""
READ = (*READ_TO_SEE_A_BEGINNING, EventType.STAGE_ENDED, EventType.VISIT_ENDED)
"""The events that `journaled_hosts` reads."""

Nginx = tuple[str, str]
"""The machine's id and the instance on it: one nginx, whatever names it has."""


@dataclass(frozen=True, slots=True)
class JournaledHosts:
    """What a journal knows of the hosts of one rollout.

    `is_whole`: the rollout began in this journal, so `planned` is its whole plan. `epoch` is the highest that its runs gave
    or met. `reports` are the last reports of the hosts, without those whose last visit got no answer; `states` are the states
    of their records.
    """

    planned: tuple[str, ...] = ()
    is_whole: bool = False
    never_begun: frozenset[str] = frozenset()
    epoch: int = 0
    states: Mapping[str, State] = field(default_factory=dict)
    reports: Mapping[str, Report] = field(default_factory=dict)
    nginx: Mapping[str, Nginx] = field(default_factory=dict)

    @property
    def may_have_begun(self) -> frozenset[str]:
        """The hosts of the plan that are not known to be as they were."""
        return frozenset(self.planned) - self.never_begun


NOT_JOURNALED = JournaledHosts()


def journaled_hosts(rollout: str, events: Iterable[Event], is_running: bool = False) -> JournaledHosts:
    """What these events of a rollout say of its hosts. While one of its runs is at work, no host counts as never begun."""
    told = tuple(events)
    starts = [event.data for event in told if event.type is EventType.ROLLOUT_STARTED]
    plans = [data["batches"] for data in starts if data.get("command") in FORWARD]
    planned = tuple(dict.fromkeys(name for batches in plans for batch in batches for name in batch))
    reported = [(event.host, event.report) for event in told if event.host is not None and event.report is not None]
    begun = {event.host for event in told if _begins(event)}
    begun |= {name for name, report in reported if names_rollout(report, rollout)}
    last = _last_reports(told)
    records = {name: report.record for name, report in last.items()}
    return JournaledHosts(
        planned=planned,
        is_whole=bool(starts) and starts[0].get("command") == "upgrade",
        never_begun=frozenset() if is_running else frozenset(planned) - begun,
        epoch=max((*(report.epoch for _, report in reported), *map(_epoch, told)), default=0),
        states={name: record.state for name, record in records.items() if record is not None and _of(record, rollout)},
        reports=last,
        nginx={name: nginx for name, report in reported if (nginx := nginx_of(report)) is not None},
    )


def _begins(event: Event) -> bool:
    """Whether a visit starts that may begin its host."""
    return event.type is EventType.VISIT_STARTED and event.data.get("ask") not in NEVER_BEGINS


def _epoch(event: Event) -> int:
    return int(event.data.get("epoch", 0)) if event.type is EventType.STAGE_ENDED else 0


def _last_reports(events: Iterable[Event]) -> dict[str, Report]:
    """The last report of each host whose last visit was answered."""
    found: dict[str, Report] = {}
    for event in events:
        if event.host is not None and _begins(event):
            found.pop(event.host, None)
        elif event.host is not None and event.report is not None:
            found[event.host] = event.report
    return found


def names_rollout(report: Report | None, rollout: str) -> bool:
    """Whether the record of the host, or the one before it, is of this rollout."""
    return report is not None and (_of(report.record, rollout) or _of(report.previous, rollout))


def _of(record: Record | None, rollout: str) -> bool:
    return record is not None and record.rollout == rollout


def nginx_of(report: Report | None) -> Nginx | None:
    """The nginx that the report is about, if the host knows."""
    if report is None or report.machine_id is None or report.instance is None:
        return None
    return report.machine_id, report.instance


def hosts_of_run(run: RolloutStatus, journaled: JournaledHosts) -> dict[str, HostStatus]:
    """The hosts of a journaled run that belong to its rollout. A commit or rollback of fleet 0.3 had every selected host."""
    return {
        name: host
        for name, host in run.hosts.items()
        if not journaled.is_whole or name in journaled.planned or names_rollout(host.report, run.rollout)
    }


@dataclass(frozen=True, slots=True)
class OwnHosts:
    """The hosts of a look, by name, sorted by what they have to do with a rollout.

    `members` belong to it. Of these, `added` are not in the journal's plan, `doubtful` gave no answer and may never have been
    in the rollout, and `never_begun` gave no answer and were never begun. `outside` answered, and `silent` did not, and
    neither belongs to it. `doubles` are second names of a member's nginx, each with that member. `elsewhere` are the hosts of
    the plan that were not looked at, each with the state in which it was seen last. `is_journaled`: the journal has the whole
    plan. `is_whole`: besides, no run of another journal is known to have continued the rollout.
    """

    members: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    doubtful: tuple[str, ...] = ()
    never_begun: frozenset[str] = frozenset()
    outside: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    doubles: tuple[tuple[str, str], ...] = ()
    elsewhere: Mapping[str, State | None] = field(default_factory=dict)
    is_journaled: bool = False
    is_whole: bool = False


def own_hosts(look: RolloutStatus, rollout: str, journaled: JournaledHosts = NOT_JOURNALED) -> OwnHosts:
    """The hosts of the look, sorted."""
    is_whole = journaled.is_whole and not _goes_on_elsewhere(look, rollout, journaled)
    silent = {host.name for host in look.all if host.report is None}
    planned = frozenset(journaled.planned)
    doubles = _doubles(look, rollout, planned)
    ours = {host.name for host in look.all if host.name in planned or names_rollout(host.report, rollout)}
    ours = (ours | (set() if is_whole else silent)) - set(doubles)
    found = {nginx_of(host.report) for host in look.all if names_rollout(host.report, rollout)}
    never_begun = journaled.never_begun if is_whole else frozenset()
    elsewhere = {
        name: journaled.states.get(name)
        for name in journaled.planned
        if name not in look.hosts and name not in never_begun and journaled.nginx.get(name, ("", "")) not in found
    }
    rest = [name for name in look.hosts if name not in ours and name not in doubles]
    return OwnHosts(
        members=tuple(name for name in look.hosts if name in ours),
        added=tuple(name for name in look.hosts if name in ours - planned - silent),
        doubtful=tuple(name for name in look.hosts if name in (ours & silent) - planned),
        never_begun=never_begun & silent,
        outside=tuple(name for name in rest if name not in silent),
        silent=tuple(name for name in rest if name in silent),
        doubles=tuple(doubles.items()),
        elsewhere=elsewhere,
        is_journaled=journaled.is_whole,
        is_whole=is_whole,
    )


def _doubles(look: RolloutStatus, rollout: str, planned: frozenset[str]) -> dict[str, str]:
    """The second names of one nginx, each with the name that counts: the one in the plan, else the first.

    Cloned machines may have one id, so the pids must be the same, too.
    """
    first: dict[tuple[Nginx, tuple[int, ...]], str] = {}
    found: dict[str, str] = {}
    for host in sorted(look.all, key=lambda host: host.name not in planned):
        nginx = nginx_of(host.report)
        if host.report is None or nginx is None or not names_rollout(host.report, rollout):
            continue
        name = first.setdefault((nginx, tuple(master.pid for master in host.report.masters)), host.name)
        if name != host.name and host.name not in planned:
            found[host.name] = name
    return found


def _goes_on_elsewhere(look: RolloutStatus, rollout: str, journaled: JournaledHosts) -> bool:
    """Whether a run of another journal has continued the rollout, so that it may have hosts that this journal does not know.

    Such a run gave its hosts a higher epoch. So does a rollback, but it marks the rollout as undone.
    """
    known = set(journaled.nginx.values())
    reports = {host.name: host.report for host in look.all if host.report and names_rollout(host.report, rollout)}
    return any(
        (name not in journaled.planned and nginx_of(report) not in known)
        or (report.epoch_of == rollout and report.epoch > journaled.epoch and rollout not in report.undone)
        for name, report in reports.items()
    )
