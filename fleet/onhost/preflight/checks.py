"""Preflight: every reason against an upgrade of this host at once, each with its remedy.

Nothing is run on the host but the binaries' `-V`. What else must be tried is tried in the rehearsal, on a private copy
(docs/rehearsal.md): a configuration test by root would change the files of the running nginx.
"""

from typing import Callable, List, Optional, Tuple

from fleet.onhost.instance import Instance
from fleet.onhost.nginx.binary import ask_build, read_build
from fleet.onhost.nginx.config_files import ConfigFiles
from fleet.onhost.nginx.master_paths import config_of
from fleet.onhost.observation import Observation
from fleet.onhost.preflight import (
    earlier,
    in_memory,
    listeners,
    probe_baseline,
    replaceable,
    resources,
    service,
    worker_sets,
)
from fleet.onhost.preflight.coming_up import failed_starts
from fleet.onhost.preflight.differences import differences
from fleet.onhost.preflight.manner import Manner, manner_of
from fleet.onhost.preflight.master import at_its_path, deaf, obeys, pid_file, stays_in_foreground, the_master
from fleet.onhost.preflight.release import differs, runs
from fleet.onhost.preflight.result import PreflightResult
from fleet.onhost.preflight.subject import Subject
from fleet.onhost.protocol import Ask, Finding, Request, Severity
from fleet.onhost.reasons.catalogue import apply_allowed, finding
from fleet.onhost.rehearsal.evidence import Rehearsal
from fleet.onhost.rehearsal.rehearse import rehearse
from fleet.onhost.system.machine import Machine


def preflight(instance: Instance, request: Request, seen: Observation, staged: Optional[str]) -> PreflightResult:
    """All reasons against an upgrade of this instance. Refusals that the operator allows are turned into warnings."""
    machine = instance.machine
    if machine.user() != 0:  # Without root every other check would give a wrong answer.
        return PreflightResult((finding("no_root", uid=machine.user()),))
    found = _host(machine, request)
    about, old = the_master(machine, request, seen, instance.record)
    found += about
    if old is None or _is_done(request, seen):
        return PreflightResult(apply_allowed(tuple(found), request.options.allow))
    more, rehearsal = _instance(Subject(instance, request, seen, old, staged))
    return PreflightResult(apply_allowed(tuple(found + more), request.options.allow), rehearsal)


def before_staging(machine: Machine, request: Request, is_uploaded: bool = False) -> Tuple[Finding, ...]:
    """The refusals that make it pointless to send the release to this host, or to unpack it once it is uploaded."""
    if machine.user() != 0:
        return (finding("no_root", uid=machine.user()),)
    state_dir, release_bytes = request.layout.state_dir, request.release_bytes or 0
    room = _asked(
        "the state folder", lambda: resources.room_for_release(machine, state_dir, release_bytes, is_uploaded)
    )
    return apply_allowed(tuple(_host(machine, request) + room), request.options.allow)


def refusals(findings: Tuple[Finding, ...]) -> Tuple[Finding, ...]:
    """The findings that stop an upgrade."""
    return tuple(one for one in findings if one.severity is Severity.REFUSAL)


def _is_done(request: Request, seen: Observation) -> bool:
    """Whether the only master and its file are already the target, so that nothing will change."""
    target = request.goal.target if request.goal else None
    return target is not None and seen.masters[0].sha256 == target == seen.path_sha256


def _host(machine: Machine, request: Request) -> List[Finding]:
    found = _asked("the state folder", lambda: resources.state_folder(machine, request.layout.state_dir))
    return found + _asked("the package manager's lock", lambda: service.package_lock(machine))


def _instance(subject: Subject) -> Tuple[List[Finding], Optional[Rehearsal]]:
    """The findings about this one master, and the rehearsal of its upgrade."""
    found = pid_file(subject) + _asked("the binary's path", lambda: at_its_path(subject))
    found += _asked("the files to rename", lambda: replaceable.renamed_files(subject))
    known = earlier.still_found(subject)
    if known is not None:
        rehearsal = None
        found += list(known.findings) + deaf(subject) + worker_sets.poisoned_since(subject, known.log[1])
    else:
        more, rehearsal = _tried(subject)
        found += more
    for what, check in _surroundings(subject):
        found += _asked(what, check)
    return found, rehearsal


def _tried(subject: Subject) -> Tuple[List[Finding], Optional[Rehearsal]]:
    """What the release, the configuration and the rehearsal show. The host keeps it for the upgrade (`earlier`)."""
    about, new = runs(subject)
    old = read_build(ask_build(subject.machine, subject.image).output)
    config = config_of(subject.machine, subject.old)
    signs = obeys(subject, config)
    can_launch = not signs and replaceable.pid_file_obstacle(subject) is None
    rehearsal = _rehearsed(subject, manner_of(subject, old, new, config, can_launch))
    found = about + signs + stays_in_foreground(subject, config, rehearsal)
    if new is not None:
        found += differs(subject, old, new, config, rehearsal)
    if rehearsal is not None:
        found += failed_starts(subject, rehearsal) + differences(subject, rehearsal)
        found += _asked("the listeners", lambda: listeners.compared_listeners(subject, rehearsal))
    found += _in_memory(subject, config, rehearsal)
    if not refusals(apply_allowed(tuple(found), subject.request.options.allow)):
        earlier.keep(subject, config, rehearsal, found)
    return found + (_switched_off(subject.request) if new is not None else []), rehearsal


def _switched_off(request: Request) -> List[Finding]:
    """The warning that the operator has switched the rehearsal off: once in a rollout, by the first preflight."""
    return [finding("rehearsal_off")] if request.ask is Ask.STAGE and not request.options.rehearse else []


def _rehearsed(subject: Subject, manner: Manner) -> Optional[Rehearsal]:
    if manner is Manner.NOT or subject.staged is None or not subject.request.options.rehearse:
        return None
    probes = subject.request.options.probes
    return rehearse(subject.instance, subject.old, subject.staged, probes, manner is Manner.ALONE)


def _in_memory(subject: Subject, config: Optional[ConfigFiles], rehearsal: Optional[Rehearsal]) -> List[Finding]:
    """The findings about the running master's memory compared with the files."""
    changed = in_memory.pending(subject, config)
    found = changed + worker_sets.judged(subject, config, bool(changed))
    found += in_memory.error_log(subject, config, rehearsal) + listeners.broken_quic(config)
    return found + _asked("the environment of nginx", lambda: in_memory.lost_environment(subject, config, rehearsal))


Check = Callable[[], List[Finding]]


def _surroundings(subject: Subject) -> Tuple[Tuple[str, Check], ...]:
    return (
        ("the disks", lambda: resources.disks(subject)),
        ("the memory", lambda: resources.memory(subject)),
        ("the process limits", lambda: resources.processes(subject)),
        ("the systemd unit", lambda: service.unit(subject)),
        ("the mount of the binary", lambda: service.exec_paths(subject)),
        ("the binary's package", lambda: service.packaged(subject)),
        ("the probes", lambda: probe_baseline.fails_already(subject)),
    )


def _asked(what: str, check: Check) -> List[Finding]:
    """The findings of one check. A check that fails is a finding, too."""
    try:
        return check()
    except (OSError, ValueError, LookupError) as error:
        return [finding("not_checked", what=what, why="%s: %s" % (type(error).__name__, error))]
