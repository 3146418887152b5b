"""The lines of `fleet status` about nginx's systemd unit."""

from fleet.onhost.protocol import Report
from fleet.onhost.systemd.by_hand import follow, no_guard
from fleet.onhost.text import safe


def unit_notes(report: Report) -> list[str]:
    """What systemd would do to nginx, and what it will not do."""
    unit = report.unit
    if unit is None:
        return []
    notes, name = [], safe(unit.name.removesuffix(".service"))
    if unit.guard is not None and len(report.masters) > 1:
        notes.append(
            f"Guarded: `systemctl restart {name}` and `systemctl stop {name}` are refused until commit or rollback."
        )
    elif unit.guard is not None:
        notes.append(
            f"The unit {safe(unit.name)} is still guarded, and refuses a stop and a restart, although nginx is no longer held. "
            "The next upgrade, commit or rollback of this host removes the guard, or on the host: "
            f"{no_guard(unit.name)}"
        )
    if not unit.follows:
        master = report.masters[0].pid
        notes.append(
            f"systemd takes pid {unit.main_pid} for the main process of {safe(unit.name)}, and nginx is pid {master}: do not "
            "reload, stop or restart the unit. The next upgrade, commit or rollback corrects it, or on the host: "
            f"{follow(unit.name, master)}"
        )
    return notes
