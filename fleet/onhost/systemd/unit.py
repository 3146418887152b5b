"""The systemd unit of a process, and what systemd says of it."""

import re
from typing import Dict, List, NamedTuple, Optional, Tuple

RUNS_SYSTEMD = "/run/systemd/system"

PROPERTIES = (
    "Id,Type,PIDFile,MainPID,ActiveState,RemainAfterExit,NRestarts,KillMode,ExecReload,ExecStop,Restart,TimeoutStopUSec,"
    "ExecPaths,NoExecPaths,RefuseManualStop,NotifyAccess,NeedDaemonReload,FragmentPath,DropInPaths,LoadState,Result"
)
"""What one call of `systemctl show` is asked for. An older systemd leaves out what it does not know."""
FILE_PROPERTIES = "Id,PIDFile,ActiveState,LoadState,UnitFileState"
"""What is asked of every service, to find nginx's by its pid file."""


class Unit(NamedTuple):
    """A service as systemd has it loaded. `main_pid` is 0 where systemd knows no main process.

    `reload` and `stop` are the commands as `systemctl show` prints them, a line for each; `stop_timeout` is in systemd's
    words (`1min 30s`). `remains`: RemainAfterExit=. `is_outdated`: its files have changed since systemd read them. `files` are
    the unit's file and its drop-ins. `is_there`: its file was found, and it is not masked. `hit_start_limit`: systemd refuses
    to start it, because it was started too often.
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
    is_there: bool = True
    hit_start_limit: bool = False

    @property
    def has_main(self) -> bool:
        """Whether systemd follows a process of this unit that came from a pid file. A unit masked since still has it."""
        return self.type == "forking" or (not self.is_there and self.main_pid != 0)

    @property
    def has_ended(self) -> bool:
        """Whether systemd takes the unit for ended, whatever still runs in its control group. It heeds no MAINPID= then."""
        return self.active in ("inactive", "failed")

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
        is_there=shown.get("LoadState", "loaded") == "loaded",
        hit_start_limit=shown.get("Result", "").startswith("start-limit"),
        files=tuple(filter(None, (shown.get("FragmentPath", ""),))) + drop_ins,
    )


class UnitFile(NamedTuple):
    """A service that systemd has loaded, by its pid file. `starts_at_boot`: it is not disabled."""

    name: str
    pid_file: str
    active: str
    starts_at_boot: bool


def read_unit_files(output: str) -> List[UnitFile]:
    """The services that `systemctl show` printed, but those without a pid file, those that are masked and those not found."""
    found: Dict[str, UnitFile] = {}
    for block in output.split("\n\n"):
        shown = read_show(block)
        name, pid_file = shown.get("Id", ""), shown.get("PIDFile", "")
        if name and pid_file and shown.get("LoadState") == "loaded":
            at_boot = shown.get("UnitFileState", "") not in ("", "disabled")
            found[name] = UnitFile(name, pid_file, shown.get("ActiveState", ""), at_boot)
    return list(found.values())


def session_of(cgroups: str) -> Optional[str]:
    """The scope of the login in /proc/PID/cgroup (`session-5.scope`), or `None`."""
    return next((part for part in re.split("[/\n]", cgroups) if re.match(r"session-[^/]+\.scope$", part)), None)


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
