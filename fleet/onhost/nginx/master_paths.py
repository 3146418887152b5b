"""The files that a running master was started with: its configuration, and its pid file.

Nothing is run but `-V`: a configuration test creates a missing pid file and changes owners (docs/nginx-facts.md, section 4).
"""

import os
import stat
from typing import Optional

from fleet.onhost.nginx.binary import Build, ask_build, effective, prefix_of, read_build
from fleet.onhost.nginx.command_line import read_command_line, under
from fleet.onhost.nginx.config_files import ConfigFiles, Seen, read_files, values_in
from fleet.onhost.observation import Master
from fleet.onhost.system.machine import Machine

OLDBIN = ".oldbin"
SHORT_BYTES = 64


def config_of(machine: Machine, master: Master) -> Optional[ConfigFiles]:
    """The files of this master's configuration as they are now; `None` when the binary does not say where they are."""
    build = read_build(ask_build(machine, "/proc/%d/exe" % master.pid).output)
    return _config(machine, master, build) if build is not None else None


def _config(machine: Machine, master: Master, build: Build) -> ConfigFiles:
    command = read_command_line(master.argv)
    main = under(_folder(machine, master), effective(build, command, "conf-path"))
    return read_files(Seen(machine, master.pid), main, command.directives)


def pid_path(machine: Machine, master: Master) -> Optional[str]:
    """The pid file of this master; `None` when its binary does not say which one is built in.

    Of the paths that its configuration gives to `pid`, and the built-in one, it is the one that holds its pid. A map or Lua
    may hold a `pid` of its own.
    """
    build = read_build(ask_build(machine, "/proc/%d/exe" % master.pid).output)
    if build is None:
        return None
    command = read_command_line(master.argv)
    given = tuple(values_in(command.directives, "pid")) + _config(machine, master, build).values("pid")
    paths = [under(prefix_of(build, command), one) for one in given] + [effective(build, command, "pid-path")]
    paths = [under(_folder(machine, master), path) for path in paths]
    return next((path for path in paths if _names(machine, path, master.pid)), paths[0])


def _folder(machine: Machine, master: Master) -> str:
    """The working directory of the master, which a relative prefix starts from."""
    folder = machine.real_path("/proc/%d/cwd" % master.pid)
    return folder if machine.stat(folder) is not None else "/"


def _names(machine: Machine, path: str, pid: int) -> bool:
    files = [path + end for end in ("", OLDBIN) if _is_short(machine.stat(path + end))]
    return any((machine.read(one) or "").strip() == str(pid) for one in files)


def _is_short(seen: Optional[os.stat_result]) -> bool:
    return seen is not None and stat.S_ISREG(seen.st_mode) and seen.st_size < SHORT_BYTES
