"""Preflight: every reason against an upgrade of this host at once, each with its remedy.

The order of the checks is a safety rule: nothing runs against the configuration before the pid file is known to be good,
because `nginx -t` creates an empty pid file in place of a missing one (docs/nginx-facts.md, section 4).
"""

from typing import Callable, List, NamedTuple, Optional, Tuple

from fleet.onhost.instance import Instance
from fleet.onhost.nginx.binary import (
    Build,
    ask_build,
    complaint,
    dump_configuration,
    read_build,
    test_configuration,
)
from fleet.onhost.nginx.configuration import Configuration
from fleet.onhost.nginx.master_paths import config_of
from fleet.onhost.observation import Observation
from fleet.onhost.preflight import in_memory, listeners, probe_baseline, replaceable, resources, service, worker_sets
from fleet.onhost.preflight.master import at_its_path, configuration_of, obeys, pid_file, the_master
from fleet.onhost.preflight.release import differs, moved_paths, rejected, runs
from fleet.onhost.preflight.result import PreflightResult
from fleet.onhost.preflight.subject import Subject
from fleet.onhost.protocol import Finding, Request, Severity
from fleet.onhost.reasons.catalogue import apply_allowed, finding
from fleet.onhost.system.machine import Machine

__all__ = ["before_staging", "dump_configuration", "preflight", "test_configuration"]

TEST_TIMEOUT_S = 50.0  # Two of these must end before the controller takes the silence for a dead link.


class Tested(NamedTuple):
    """Result of both configuration tests: `old` and `new` are what each binary reads, if it accepts the configuration."""

    findings: Tuple[Finding, ...]
    old: Optional[Configuration]
    new: Optional[Configuration]


def preflight(instance: Instance, request: Request, seen: Observation, staged: Optional[str]) -> PreflightResult:
    """All reasons against an upgrade of this instance. Refusals that the operator allows are turned into warnings."""
    machine = instance.machine
    if machine.user() != 0:  # Without root every other check would give a wrong answer.
        return PreflightResult((finding("no_root", uid=machine.user()),))
    found = _host(machine, request)
    about, old = the_master(machine, request, seen, instance.record)
    found += about
    if old is not None and not _is_done(request, seen):
        found += _instance(Subject(instance, request, seen, old, staged))
    return PreflightResult(apply_allowed(tuple(found), request.options.allow))


def before_staging(machine: Machine, request: Request) -> Tuple[Finding, ...]:
    """The refusals that make it pointless to send the release to this host."""
    if machine.user() != 0:
        return (finding("no_root", uid=machine.user()),)
    state_dir, release_bytes = request.layout.state_dir, request.release_bytes or 0
    room = _asked("the state folder", lambda: resources.room_for_release(machine, state_dir, release_bytes))
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


def _instance(subject: Subject) -> List[Finding]:
    """The findings about this one master."""
    lies = pid_file(subject)
    found = lies + _asked("the binary's path", lambda: at_its_path(subject))
    about, new = runs(subject)
    found += about
    old = read_build(ask_build(subject.machine, subject.image).output)
    tested = Tested((), None, None) if lies else _tested(subject, old, new)
    found += list(tested.findings)
    if new is not None:
        found += differs(subject, old, new, tested.old or tested.new)
    found += obeys(subject, tested.old or tested.new)
    found += _in_memory(subject, tested)
    for what, check in _surroundings(subject):
        found += _asked(what, check)
    return found


def _tested(subject: Subject, old: Optional[Build], new: Optional[Build]) -> Tested:
    """Both binaries test the configuration, each as the master would start it."""
    machine, layout = subject.machine, subject.request.layout
    ran = dump_configuration(machine, subject.image, subject.old, layout, TEST_TIMEOUT_S)
    before = configuration_of(subject, ran.output) if ran.code == 0 else None
    if new is None or subject.staged is None:
        broken = [] if before else [_rejection("the running binary", ran.output)]
        return Tested(tuple(broken), before, before)
    if old is not None and moved_paths(old, new, subject.command, before):
        return Tested(
            (), before, None
        )  # With other built-in paths it would test other files and create another pid file.
    answer = dump_configuration(machine, subject.staged, subject.old, layout, TEST_TIMEOUT_S)
    if answer.code == 0:
        return Tested((), before, configuration_of(subject, answer.output))
    return Tested((_rejection("the new binary", answer.output, also=before is None),), before, None)


def _rejection(binary: str, output: str, also: bool = False) -> Finding:
    return rejected(binary, complaint(output), " (the running binary rejects it, too)" if also else "")


def _in_memory(subject: Subject, tested: Tested) -> List[Finding]:
    """The findings about the running master's memory compared with the files."""
    config = tested.old or tested.new
    files = config_of(subject.machine, subject.old)
    changed = in_memory.pending(subject, files)
    found = changed + worker_sets.judged(subject, files, bool(changed))
    found += in_memory.error_log(subject, config)
    if tested.new is not None:
        found += listeners.compare(subject, tested.new)
    if config is not None:
        found += in_memory.lost_environment(subject, config)
    return found


Check = Callable[[], List[Finding]]


def _surroundings(subject: Subject) -> Tuple[Tuple[str, Check], ...]:
    return (
        ("the files to rename", lambda: replaceable.renamed_files(subject)),
        ("the disks", lambda: resources.disks(subject)),
        ("the memory", lambda: resources.memory(subject)),
        ("the process limits", lambda: resources.processes(subject)),
        ("the systemd unit", lambda: service.unit(subject)),
        ("the binary's package", lambda: service.packaged(subject)),
        ("the probes", lambda: probe_baseline.fails_already(subject)),
    )


def _asked(what: str, check: Check) -> List[Finding]:
    """The findings of one check. A check that fails is a finding, too."""
    try:
        return check()
    except (OSError, ValueError, LookupError) as error:
        return [finding("not_checked", what=what, why="%s: %s" % (type(error).__name__, error))]
