"""A process that the step script leaves behind: a fork of it, which runs another command of the same script.

A fork has everything loaded that a new Python would load again (120 ms of CPU), and needs no file of the script later. It
keeps nothing else of its parent: no descriptor, no environment, no terminal and no session, so it outlives the connection.
stdin is never touched, because a thread of the parent may have held its lock at the moment of the fork.
"""

import ctypes
import gc
import os
import runpy
import sys
import syslog
import traceback
from typing import Dict, NoReturn, Optional, Sequence

PLACES = slice(45, 49)
"""Fields 48 to 51 of /proc/PID/stat, counted behind the name: where arguments and environment begin and end (proc(5))."""


class LeftBehind:
    """The process, for as long as this one lives."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: Optional[int] = None

    def exit_code(self) -> Optional[int]:
        """The exit code: -N after signal N; `None` while it runs."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        return self._code


def leave_behind(words: Sequence[str], title: str, environment: Dict[str, str]) -> LeftBehind:
    """Run the script `words[0]` with these arguments in a fork. Raises OSError.

    `ps` shows the title. The exit code is the script's, 1 after an error.
    """
    pid = os.fork()
    if pid == 0:
        _be(words, title, environment)
    return LeftBehind(pid)


def _be(words: Sequence[str], title: str, environment: Dict[str, str]) -> NoReturn:
    code = 1
    try:
        _cut_loose(title, environment)
        sys.argv[:] = words
        runpy.run_path(words[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        syslog.syslog(syslog.LOG_ERR | syslog.LOG_DAEMON, "fleet: %s: %s" % (title, traceback.format_exc()))
    finally:
        os._exit(code)  # Nothing of the parent's is flushed or closed a second time.


def _cut_loose(title: str, environment: Dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    _rename(title.encode())
    os.setsid()
    os.chdir("/")
    # An object of the parent that is freed later would close a number that means another file by then.
    getattr(gc, "freeze", gc.collect)()  # Python 3.6 has no freeze
    syslog.closelog()
    for number in sorted(map(int, os.listdir("/proc/self/fd"))):
        if number > 2:
            try:
                os.close(number)
            except OSError:  # the listing's own
                continue
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)


def _rename(title: bytes) -> None:
    """Have /proc/PID/cmdline show the title, as far as there is room for it.

    It is written over the arguments and the environment that the kernel put on the stack (as setproctitle(3) does): nothing
    points there any more, because the environment was set anew.
    """
    with open("/proc/self/stat", "rb") as source:
        places = source.read().rpartition(b")")[2].split()[PLACES]
    start, arguments_end, environment_start, end = map(int, places)
    if environment_start != arguments_end:
        end = arguments_end
    if 0 < start < end:  # An emulator shows no addresses.
        ctypes.memset(start, 0, end - start)
        ctypes.memmove(start, title, min(len(title), end - start - 1))
