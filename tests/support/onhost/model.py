"""A model of one nginx instance: what signals, deaths and file swaps make of it, without a process.

The property test walks the procedure over it; `tests/lab/test_model.py` holds it against the real nginx. It knows only
idle workers, so that a worker is gone at once after QUIT.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from fleet.onhost.observation import Master, Observation, Worker
from fleet.onhost.protocol import Step

OLD_SHA, NEW_SHA = "a" * 64, "b" * 64
WORKERS = 2
PATH, PID_FILE = "/nginx", "/nginx.pid"
LISTENER = 7
ORPHANS = range(10_000_000, 10_000_100)


@dataclass(frozen=True, slots=True)
class Model:
    """`accepting` counts the workers of a master; the child's fields are `None`/0 while there is only one master.

    `counted` is nginx's own `live`: it falls with the last worker and rises again only when a child is reaped or the
    master reloads. Workers that HUP revives while there is a child master are not counted, so a QUIT to the parent just
    then ends it at once and leaves them behind as orphans (ngx_master_process_cycle; found by the lab's histories).
    `forks` counts the reloads of either master: each one makes new workers.
    """

    path: str = OLD_SHA
    old: str | None = OLD_SHA
    old_accepting: int = WORKERS
    new: str | None = None
    new_accepting: int = 0
    orphans: int = 0
    oldbin: bool = False
    counted: bool = True
    ids: tuple[int, int] = field(default=(1, 0))
    forks: tuple[int, int] = field(default=(0, 0))

    def put(self, sha256: str) -> "Model":
        """The file at the path is another one."""
        return replace(self, path=sha256)

    def usr2_old(self) -> "Model":
        """The parent starts the file at the path; ignored while it has a child master, or none is there to hear it."""
        if self.old is None or self.new is not None:
            return self
        return replace(self, new=self.path, new_accepting=WORKERS, oldbin=True, ids=(self.ids[0], max(self.ids) + 1))

    def winch_old(self) -> "Model":
        return self if self.old is None else replace(self, old_accepting=0, counted=False)

    def winch_new(self) -> "Model":
        return self if self.new is None else replace(self, new_accepting=0)

    def hup_old(self) -> "Model":
        """Alone it reloads: one fresh set of workers. While it has a child master each HUP adds a set."""
        if self.old is None:
            return self
        if self.new is None:
            return replace(self, old_accepting=WORKERS, counted=True, forks=(self.forks[0] + 1, 0))
        return replace(self, old_accepting=self.old_accepting + WORKERS)

    def hup_new(self) -> "Model":
        """It reloads: one fresh set of workers."""
        return (
            self if self.new is None else replace(self, new_accepting=WORKERS, forks=(self.forks[0], self.forks[1] + 1))
        )

    def quit_old(self) -> "Model":
        """Its workers are idle, so it leaves at once; the child is the one master then."""
        return self if self.old is None else self._old_left(orphans=0 if self.counted else self.old_accepting)

    def quit_new(self) -> "Model":
        return self if self.new is None else self._new_left(orphans=0)

    def kill_old(self) -> "Model":
        """Its workers get no signal: they accept on as orphans, and the `.oldbin` stays."""
        return self if self.old is None else self._old_left(orphans=self.old_accepting, oldbin=self.oldbin)

    def kill_new(self) -> "Model":
        return self if self.new is None else self._new_left(orphans=self.new_accepting)

    def sweep(self) -> "Model":
        """fleet's own tidying."""
        return replace(self, orphans=0, oldbin=self.new is not None)

    def _old_left(self, orphans: int, oldbin: bool = False) -> "Model":
        return Model(
            path=self.path,
            old=self.new,
            old_accepting=self.new_accepting,
            orphans=self.orphans + orphans,
            oldbin=oldbin,
            counted=self.new is None or self.new_accepting > 0,
            ids=(self.ids[1] or max(self.ids), 0),
            forks=(self.forks[1], 0),
        )

    def _new_left(self, orphans: int) -> "Model":
        """The parent gives itself workers when it has none and its child master ends; the pid file is its own again."""
        return replace(
            self,
            old_accepting=self.old_accepting or WORKERS,
            new=None,
            new_accepting=0,
            orphans=self.orphans + orphans,
            oldbin=False,
            counted=True,
            ids=(self.ids[0], 0),
            forks=(self.forks[0], 0),
        )

    @property
    def serves(self) -> bool:
        """Whether any worker takes a new connection."""
        return bool(self.old_accepting or self.new_accepting or self.orphans)

    @property
    def master_accepts(self) -> bool:
        return bool(self.old_accepting or self.new_accepting)

    def observe(self) -> Observation:
        """What fleet would see."""
        masters = []
        if self.old is not None:
            masters.append(_master(self.ids[0], 1, self.old, self.old_accepting, self.forks[0]))
        if self.new is not None:
            masters.append(_master(self.ids[1], self.ids[0], self.new, self.new_accepting, self.forks[1]))
        return Observation(
            masters=tuple(masters),
            path=PATH,
            path_sha256=self.path,
            pid_file=PID_FILE,
            pid_file_pid=masters[-1].pid if masters else None,
            oldbin_pid=masters[0].pid if self.oldbin and masters else None,
            oldbin_exists=self.oldbin,
            orphans=tuple(ORPHANS[: self.orphans]),
            litter=(PID_FILE + ".oldbin",) if self.oldbin and self.new is None else (),
        )


def _master(pid: int, ppid: int, sha256: str, accepting: int, forks: int) -> Master:
    workers = tuple(Worker(pid * 100 + n, 1 + forks, False, True) for n in range(accepting))
    return Master(pid, pid, ppid, sha256, (PATH,), workers, (LISTENER,))


def take(model: Model, step: Step, target: str) -> Model:
    """What the step makes of the model when all goes well."""
    two = model.new is not None
    acts: dict[Step, Callable[[], Model]] = {
        Step.SWAP: lambda: model.put(target),
        Step.LAUNCH: lambda: model.usr2_old(),
        Step.VERIFY: lambda: model,
        Step.DRAIN: lambda: model.winch_old(),
        Step.RETIRE: lambda: model.quit_old(),
        Step.REVIVE: lambda: model if model.old_accepting else model.hup_old(),
        Step.DISMISS: lambda: model.quit_new() if two else model,
        Step.RESTORE: lambda: model.put(target),
        Step.SWEEP: lambda: model.put(target).sweep(),
    }
    return acts[step]()


def refuses(model: Model, step: Step) -> bool:
    """Whether the step's own guards stop it: the new workers must accept before the old ones may go, and vice versa."""
    if step is Step.VERIFY and model.new is None:
        return not model.old_accepting
    if step in (Step.VERIFY, Step.DRAIN, Step.RETIRE):
        return not model.new_accepting
    return step is Step.DISMISS and not model.old_accepting
