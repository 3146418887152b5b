"""What systemd would do to nginx, in words: the settings of a unit, as they act beside two masters or a wrong main process.

Each was tried on real units (docs/systemd.md).
"""

import re
from typing import List

from fleet.onhost.systemd.reload_lines import MAIN
from fleet.onhost.systemd.unit import Unit

KILLS_BY_NAME = re.compile(r"pid-?file|\.pid\b|-s +(?:quit|stop)")


def stops_by_pid_file(unit: Unit) -> bool:
    """Whether ExecStop= ends the master that the pid file names."""
    return bool(KILLS_BY_NAME.search(unit.stop))


def reloads_main(unit: Unit) -> bool:
    """Whether ExecReload= signals the process that systemd follows, whichever the pid file names."""
    return bool(MAIN.search(unit.reload))


def is_harmful(unit: Unit) -> bool:
    """Whether the settings of the unit would do more to a held nginx than the restart that an operator expects."""
    return reloads_main(unit) or (unit.kill_mode in ("process", "mixed", "none") and not stops_by_pid_file(unit))


def when_held(unit: Unit) -> str:
    """What a stop, a restart and a reload from outside would do while two masters live."""
    wait = unit.stop_timeout or "its stop timeout"
    if unit.kill_mode == "process" and not stops_by_pid_file(unit):
        ends = (
            "`systemctl restart` would end the old master only: the new one keeps the ports for %s and is then killed, "
            "and the start fails" % wait
        )
    elif not stops_by_pid_file(unit) and unit.kill_mode == "mixed":
        ends = (
            "`systemctl restart` would end the old master, kill the new one after %s, and start the file at the path"
            % wait
        )
    else:
        ends = "`systemctl restart` would end both masters and start the file at the path, the new release"
    found = [ends]
    if reloads_main(unit):
        found.append("`systemctl reload` would reach the old master, whose workers would serve again")
    return "; ".join(found)


def when_stale(unit: Unit) -> str:
    """What a reload, a stop and a restart would do while systemd follows a process that is not nginx's master."""
    if reloads_main(unit):
        reload = "a reload fails, and systemd then kills nginx"
    else:
        reload = "a reload of a configuration that nginx rejects makes systemd kill nginx"
    if unit.kill_mode == "process":
        reload = reload.replace("kills nginx", "gives nginx up").replace("kill nginx", "give nginx up")
    return "%s; %s" % (reload, _stop_when_stale(unit))


def _stop_when_stale(unit: Unit) -> str:
    if stops_by_pid_file(unit):
        return "a stop and a restart still end it gracefully"
    if unit.kill_mode == "process":
        return "a stop does not reach it, and a restart fails, because it keeps the ports"
    return "a stop and a restart cut every connection"


def settings(unit: Unit) -> str:
    """The settings that matter while nginx is held."""
    found: List[str] = ["KillMode=%s" % unit.kill_mode]
    if not stops_by_pid_file(unit):
        found.append("no ExecStop= by the pid file")
    if reloads_main(unit):
        found.append("ExecReload= by $MAINPID")
    if unit.restart not in ("", "no"):
        found.append("Restart=%s" % unit.restart)
    if unit.stop_timeout:
        found.append("TimeoutStopSec=%s" % unit.stop_timeout.replace(" ", ""))
    return ", ".join(found)
