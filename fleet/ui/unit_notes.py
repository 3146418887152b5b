"""The lines of `fleet status` about nginx's systemd unit."""

from fleet.onhost.protocol import Phase, Report, State
from fleet.onhost.systemd.by_hand import follow, no_guard
from fleet.onhost.text import safe
from fleet.onhost.views import UnitView

ENDED = ("inactive", "failed")


def unit_notes(report: Report) -> list[str]:
    """What systemd would do to nginx, and what it will not do."""
    unit = report.unit
    return [] if unit is None else list(filter(None, (_guard_note(report, unit), _main_pid_note(report, unit))))


def _guard_note(report: Report, unit: UnitView) -> str:
    name, record = safe(unit.name.removesuffix(".service")), report.record
    if unit.guard is None:
        return ""
    if len(report.masters) > 1:
        return f"Guarded: `systemctl restart {name}` and `systemctl stop {name}` are refused until commit or rollback."
    if record is not None and record.state is State.BEGUN:
        keep = ", or `fleet commit` to keep the new release" if report.phase is Phase.NEW else ""
        return (
            f"Guarded: a restart of {name} is refused. nginx no longer has two masters, and the rollout is not over: type "
            f"`fleet rollback`{keep}."
        )
    return (
        f"The unit {safe(unit.name)} is still guarded, and refuses a stop and a restart, although nginx is no longer held. "
        f"The next upgrade, commit or rollback of this host removes the guard, or on the host: {no_guard(unit.name)}"
    )


def _main_pid_note(report: Report, unit: UnitView) -> str:
    if unit.follows:
        return ""
    master, name = report.masters[0].pid, safe(unit.name)
    if unit.active in ENDED:
        return (
            f"systemd takes {name} for {unit.active}, and nginx (pid {master}) runs on in it: a start would fail. At a quiet "
            f"time, on the host: kill -QUIT {master}, then systemctl start {name}"
        )
    return (
        f"systemd takes pid {unit.main_pid} for the main process of {name}, and nginx is pid {master}: do not reload, stop or "
        "restart the unit. The next upgrade, commit or rollback corrects it, or on the host: "
        f"{follow(unit.name, master)}"
    )
