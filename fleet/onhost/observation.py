"""What one look at an instance of nginx finds: its masters, their workers, and the files that name them.

An observation stays on the host. What the controller learns of it is in a `protocol.Report`.
"""

from typing import NamedTuple, Optional, Tuple


class Worker(NamedTuple):
    """A child of a master that serves or has served."""

    pid: int
    start: int
    draining: bool
    ready: bool


class Master(NamedTuple):
    """A master process. (pid, start) is its identity within one boot; `listeners` are the inodes of its listening sockets."""

    pid: int
    start: int
    ppid: int
    sha256: Optional[str]
    argv: Tuple[str, ...]
    workers: Tuple[Worker, ...]
    listeners: Tuple[int, ...]
    stopped: bool = False

    @property
    def accepting(self) -> Tuple[Worker, ...]:
        return tuple(worker for worker in self.workers if worker.ready and not worker.draining)

    @property
    def draining(self) -> Tuple[Worker, ...]:
        return tuple(worker for worker in self.workers if worker.draining)


class Observation(NamedTuple):
    """One look at one instance. `masters` has the parent first; `path` is the file that the next USR2 would execute.

    `others` are masters on this host that are unrelated to this instance. `alone` is a process that the pid file names and
    that serves without being a master (`master_process off`). `litter` is what `sweep` would remove.
    """

    masters: Tuple[Master, ...]
    path: Optional[str]
    path_sha256: Optional[str]
    pid_file: Optional[str]
    pid_file_pid: Optional[int]
    oldbin_pid: Optional[int]
    oldbin_exists: bool = False
    orphans: Tuple[int, ...] = ()
    litter: Tuple[str, ...] = ()
    others: Tuple[int, ...] = ()
    alone: Optional[int] = None
