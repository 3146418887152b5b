"""The systemd unit of a process, and what systemd says of it."""

from typing import Dict, NamedTuple, Optional, Tuple

RUNS_SYSTEMD = "/run/systemd/system"

PROPERTIES = (
    "Id,Type,PIDFile,MainPID,ActiveState,RemainAfterExit,NRestarts,KillMode,ExecReload,ExecStop,Restart,TimeoutStopUSec,"
    "ExecPaths,NoExecPaths,RefuseManualStop,NotifyAccess,NeedDaemonReload,FragmentPath,DropInPaths"
)
"""What one call of `systemctl show` is asked for. An older systemd leaves out what it does not know."""


class Unit(NamedTuple):
    """A service as systemd has it loaded. `main_pid` is 0 where systemd knows no main process.

    `reload` and `stop` are the commands as `systemctl show` prints them, a line for each; `stop_timeout` is in systemd's
    words (`1min 30s`). `remains`: RemainAfterExit=. `is_outdated`: its files have changed since systemd read them. `files` are
    the unit's file and its drop-ins.
    """

    name: str
    type: str
    pid_file: str
    main_pid: int
    active: str = ""
    restarts: int = 0
    kill_mode: str = "control-group"
    reload: str = ""
    stop: str = ""
    restart: str = "no"
    stop_timeout: str = ""
    exec_paths: str = ""
    no_exec_paths: str = ""
    remains: bool = False
    refuses_stop: bool = False
    hears_all: bool = False
    is_outdated: bool = False
    files: Tuple[str, ...] = ()

    @property
    def has_main(self) -> bool:
        """Whether systemd follows a process of this unit that came from a pid file."""
        return self.type == "forking"

    @property
    def owns_nginx(self) -> bool:
        """Whether such a unit can own an nginx that became a daemon. Another one (that of sshd) only has it in its group."""
        return self.type == "forking" or (self.type == "oneshot" and self.remains)


def read_unit(output: str) -> Optional[Unit]:
    """The unit that `systemctl show` printed; `None` where the output is something else."""
    shown = read_show(output)
    if not shown.get("Id") or not shown.get("MainPID", "0").isdigit():
        return None
    drop_ins = tuple(shown.get("DropInPaths", "").split())
    restarts = shown.get("NRestarts", "")
    return Unit(
        name=shown["Id"],
        type=shown.get("Type", ""),
        pid_file=shown.get("PIDFile", ""),
        main_pid=int(shown.get("MainPID", "0")),
        active=shown.get("ActiveState", ""),
        restarts=int(restarts) if restarts.isdigit() else 0,
        kill_mode=shown.get("KillMode", "control-group"),
        reload=shown.get("ExecReload", ""),
        stop=shown.get("ExecStop", ""),
        restart=shown.get("Restart", "no"),
        stop_timeout=shown.get("TimeoutStopUSec", ""),
        exec_paths=shown.get("ExecPaths", ""),
        no_exec_paths=shown.get("NoExecPaths", ""),
        remains=shown.get("RemainAfterExit") == "yes",
        refuses_stop=shown.get("RefuseManualStop") == "yes",
        hears_all=shown.get("NotifyAccess") == "all",
        is_outdated=shown.get("NeedDaemonReload") == "yes",
        files=tuple(filter(None, (shown.get("FragmentPath", ""),))) + drop_ins,
    )


def unit_of(cgroups: str) -> Optional[str]:
    """The systemd service in /proc/PID/cgroup, or `None` (a login session is no service)."""
    for line in cgroups.splitlines():
        number, names, path = (line.split(":", 2) + ["", ""])[:3]
        if names == "name=systemd" or (number == "0" and not names):
            services = [part for part in path.split("/") if part.endswith(".service")]
            if services:
                return services[-1]
    return None


def read_show(output: str) -> Dict[str, str]:
    """The properties that `systemctl show` printed, by name. One that it printed several times has a line for each."""
    found: Dict[str, str] = {}
    for line in output.splitlines():
        name, equals, value = line.partition("=")
        if name and equals:
            found[name] = "%s\n%s" % (found[name], value) if name in found else value
    return found
