"""The report of a host: it ends every visit, and `fleet status` shows it."""

import re
from typing import Dict, Optional

from fleet.onhost.instance import Instance
from fleet.onhost.observation import Master, Observation
from fleet.onhost.procedure import classify, is_unconfirmed
from fleet.onhost.protocol import Phase, Record, Report
from fleet.onhost.state import retirement, watched
from fleet.onhost.state.fence import claim_of, fence_of
from fleet.onhost.state.known_package import package_view
from fleet.onhost.state.lease import left_s
from fleet.onhost.state.store import InstanceStore
from fleet.onhost.views import DrainView, MasterView, UnitView

VERSION = re.compile(r"version: \S+?/(\S+)")
VERSION_TIMEOUT_S = 5.0
NO_RECORD = ""


class Versions:
    """Versions by hash. Each binary is run once (`-v`) in a conversation."""

    def __init__(self, instance: Instance) -> None:
        self._machine = instance.machine
        self._remembered = instance.observer.remembered.versions
        self._known: Dict[str, Optional[str]] = dict(self._remembered)

    def of(self, sha256: Optional[str], path: Optional[str]) -> Optional[str]:
        """The version that the file at `path` prints; `sha256` is its hash. `None` where it prints none."""
        if sha256 is None or path is None:
            return None
        if sha256 not in self._known:
            ran = self._machine.run((path, "-v"), VERSION_TIMEOUT_S)
            found = VERSION.search(ran.output)
            self._known[sha256] = found.group(1) if ran.code == 0 and found else None
            if found and ran.code == 0:
                self._remembered[sha256] = found.group(1)
        return self._known[sha256]


def report(instance: Instance) -> Report:
    """A fresh look as `status` shows it, seen from the release of the rollout that the record names."""
    seen = instance.look()
    own, record = instance.kept, instance.record
    phase = _phase(seen, record)
    versions = Versions(instance)
    views = tuple(_view(versions, seen, master) for master in seen.masters)
    running = _running(seen)
    found = Report(
        phase=phase,
        masters=views,
        running_sha256=running.sha256 if running else None,
        running_version=versions.of(running.sha256, "/proc/%d/exe" % running.pid) if running else None,
        path=seen.path,
        path_sha256=seen.path_sha256,
        path_version=versions.of(seen.path_sha256, seen.path),
        held=phase is Phase.TRIAL,
        record=record,
        epoch=0,
        machine_id=(instance.machine.read("/etc/machine-id") or "").strip() or None,
        pid_file=seen.pid_file,
        drain_pending=phase is Phase.TRIAL and bool(seen.masters[0].draining),
        undo=_undo(own) if own and record and phase in (Phase.TRIAL, Phase.OVERLAP, Phase.RETIRING) else None,
        start_command=_start_command(instance, seen) if phase is Phase.DOWN else None,
        orphans=seen.orphans,
        drain=_drain(instance, seen) if any(master.draining for master in seen.masters) else None,
        unit=_unit(instance, seen) if instance.systemd.runs else None,
        unconfirmed=is_unconfirmed(seen, record, instance.serving.verified_master),
        committed_by=_committed_by(instance, record, seen) if record else "",
        package=package_view(instance.machine, own, seen.path, seen.path_sha256),
    )
    return _with_kept(found, own) if own else found


# What most hosts have nothing of is loaded where a host has it.


def _drain(instance: Instance, seen: Observation) -> Optional[DrainView]:
    from fleet.onhost.nginx.draining import drain_view

    return drain_view(instance.machine, instance.kept, seen)


def _start_command(instance: Instance, seen: Observation) -> Optional[str]:
    from fleet.onhost.steps.start_command import start_command

    return start_command(instance, seen)


def _unit(instance: Instance, seen: Observation) -> Optional[UnitView]:
    from fleet.onhost.report.unit_view import unit_view

    return unit_view(instance, seen)


def _committed_by(instance: Instance, record: Record, seen: Observation) -> str:
    from fleet.onhost.report.committed_by import committed_by

    return committed_by(instance, record, seen)


def _with_kept(found: Report, own: InstanceStore) -> Report:
    """The report with what the host keeps of this nginx, and owes."""
    fence = fence_of(own)
    return found._replace(
        epoch=fence.epoch,
        epoch_of=fence.rollout,
        undone=fence.undone,
        instance=own.name,
        previous=own.previous,
        claim=claim_of(own),
        lease_left_s=left_s(own),
        retirement=retirement.view(own),
        watcher=watched.view(own),
    )


def _phase(seen: Observation, record: Optional[Record]) -> Phase:
    phase = classify(seen, record.target if record else NO_RECORD) if seen.masters or seen.alone else Phase.DOWN
    if record is None and len(seen.masters) == 1 and phase is not Phase.STRANDED and seen.masters[0].accepting:
        return Phase.OLD
    return phase


def _view(versions: Versions, seen: Observation, master: Master) -> MasterView:
    return MasterView(
        pid=master.pid,
        sha256=master.sha256,
        version=versions.of(master.sha256, "/proc/%d/exe" % master.pid),
        is_old=len(seen.masters) == 2 and master is seen.masters[0],
        workers=len(master.accepting),
        draining=len(master.draining),
    )


def _running(seen: Observation) -> Optional[Master]:
    """The master whose workers accept new connections, the newer one while both do."""
    for master in reversed(seen.masters):
        if master.accepting:
            return master
    return None


def _undo(own: InstanceStore) -> str:
    return "%s/undo %s" % (own.root, own.name)
