"""One look at one nginx instance: the masters that live, what each one runs and holds, and the files on the disk.

fleet trusts no name that can be wrong. A pid file is a hint: fleet finds masters among the processes, relates them by
their parent, and tells them from workers that hang before they set their title by whether they executed an image of
their own (`Process.stack`). The NGINX variable can't be read (nginx overwrites that memory), and " (deleted)" means
nothing after a second replacement, so fleet knows an image by its hash (docs/nginx-facts.md, section 12).
"""

import os
import re
from typing import Dict, FrozenSet, List, NamedTuple, Optional, Sequence, Set, Tuple

from fleet.onhost.nginx.master_paths import OLDBIN, pid_path
from fleet.onhost.observation import Master, Observation, Worker
from fleet.onhost.protocol import Layout
from fleet.onhost.remembered import SETTLED_S, Remembered
from fleet.onhost.state.store import real_pid_file
from fleet.onhost.system.machine import Machine
from fleet.onhost.system.process import Process

MASTER = re.compile(r"^\w+: master process ?(.*)$")
WORKER = re.compile(r"^\w+: worker process")
DRAINING = "is shutting down"
OWN_NAME = ".fleet-"


class Look(NamedTuple):
    """The processes at one moment, by pid and by parent."""

    by_pid: Dict[int, Process]
    children: Dict[int, Tuple[Process, ...]]

    def start(self, pid: int) -> Optional[int]:
        process = self.by_pid.get(pid)
        return process.start if process else None


class Observer:
    """Looks at one instance repeatedly. Caches only what cannot have changed: hashes of images and files, listeners."""

    def __init__(self, machine: Machine, layout: Layout, remembered: Optional[Remembered] = None) -> None:
        self.machine = machine
        self.layout = layout
        self.remembered = remembered or Remembered()
        self._hashes = dict(self.remembered.hashes)
        self._pid_files: Dict[Tuple[int, int], Optional[str]] = {}
        self._listening: Dict[FrozenSet[int], Tuple[int, ...]] = {}

    def look(self) -> Observation:
        """The state of the instance now."""
        look = self._processes()
        pid_file = self.layout.pid_file
        named = self.pid_in(pid_file)
        oldbin = self.pid_in(pid_file + OLDBIN) if pid_file else None
        masters = _masters(look, named)
        family = self._family(look, masters, (named, oldbin))
        path = self.path(family)
        found = tuple(self._master(look, process, masters) for process in family)
        others = tuple(pid for pid in masters if pid not in [process.pid for process in family])
        return Observation(
            masters=found,
            path=path,
            path_sha256=self._file_sha256(path),
            pid_file=pid_file,
            pid_file_pid=named,
            oldbin_pid=oldbin,
            oldbin_exists=bool(pid_file) and self.machine.exists("%s%s" % (pid_file, OLDBIN)),
            orphans=self._orphans(look, masters, found),
            litter=self._litter(path, named, oldbin, family),
            others=others,
            alone=self._alone(look, named, masters),
        )

    def pid_in(self, path: Optional[str]) -> Optional[int]:
        """The number in a pid file, or `None` when the file is missing, empty or holds no number."""
        text = (self.machine.read(path) or "").strip() if path else ""
        return int(text) if text.isdigit() else None

    def path(self, family: Sequence[Process]) -> Optional[str]:
        """The real file that the next USR2 would execute: the master's argv[0], with links resolved.

        It is never looked up in PATH: a wrapper script may have started another file than the one found there.
        """
        for process in reversed(family):
            first = argv_of(process)[:1]
            if first and first[0].startswith("/"):
                return self.machine.real_path(first[0])
        return self.machine.real_path(self.layout.binary) if self.layout.binary else None

    def _processes(self) -> Look:
        every = self.machine.processes()
        children: Dict[int, List[Process]] = {}
        for process in every:
            children.setdefault(process.ppid, []).append(process)
        return Look({process.pid: process for process in every}, {pid: tuple(own) for pid, own in children.items()})

    def _family(self, look: Look, masters: FrozenSet[int], named: Sequence[Optional[int]]) -> Tuple[Process, ...]:
        """The masters of this instance, parent first: those that the pid files name, and their relatives."""
        chosen = {pid for pid in named if pid in masters}
        if not chosen:
            chosen = self._unnamed(look, masters)
        grown = True
        while grown:
            related = {
                pid
                for pid in masters
                if look.by_pid[pid].ppid in chosen or any(look.by_pid[c].ppid == pid for c in chosen)
            }
            grown = bool(related - chosen)
            chosen |= related
        return tuple(
            sorted((look.by_pid[pid] for pid in chosen), key=lambda one: (one.ppid in chosen, one.start, one.pid))
        )

    def _unnamed(self, look: Look, masters: FrozenSet[int]) -> Set[int]:
        """The masters to use when the pid file names none: those whose configuration names this pid file; if no pid file is
        known, those of the given binary, or all of them. Only a single family counts.
        """
        wanted = self.layout.binary and self.machine.real_path(self.layout.binary)
        roots = {
            pid for pid in masters if look.by_pid[pid].ppid not in masters and self.machine.same_pid_namespace(pid)
        }
        if self.layout.pid_file:
            ours = real_pid_file(self.machine, self.layout.pid_file)
            roots = {pid for pid in roots if self._pid_file_of(look.by_pid[pid]) == ours}
        elif wanted:
            roots = {pid for pid in roots if self._argv0_leads_to(look.by_pid[pid], wanted)}
        return roots if len(roots) == 1 else set()

    def _pid_file_of(self, process: Process) -> Optional[str]:
        """The pid file that this master's configuration names; read once for each master."""
        key = (process.pid, process.start)
        if key not in self._pid_files:
            master = Master(process.pid, process.start, process.ppid, None, argv_of(process), (), ())
            path = pid_path(self.machine, master)
            self._pid_files[key] = path and real_pid_file(self.machine, path)
        return self._pid_files[key]

    def _argv0_leads_to(self, process: Process, wanted: str) -> bool:
        first = argv_of(process)[:1]
        return bool(first) and self.machine.real_path(first[0]) == wanted

    def _master(self, look: Look, process: Process, masters: FrozenSet[int]) -> Master:
        return Master(
            pid=process.pid,
            start=process.start,
            ppid=process.ppid,
            sha256=self._image_sha256(process),
            argv=argv_of(process),
            workers=_workers(look, process, masters),
            listeners=self.held(process.pid),
            stopped=process.state in "Tt",
        )

    def held(self, pid: int) -> Tuple[int, ...]:
        """Inodes of the listening sockets that the process has open.

        The kernel's tables are read only when the process has sockets not seen together before: each read makes the kernel walk
        all its hash buckets (hundreds of thousands on a big machine), and fleet looks at nginx many times a second. A socket
        that does not listen yet is seen soon after: nginx calls listen() before it opens channels to new workers.
        """
        inodes = self.machine.socket_inodes(pid)
        if inodes not in self._listening:
            self._listening[inodes] = tuple(sorted(inodes & self.machine.listeners(pid).keys()))
        return self._listening[inodes]

    def _orphans(self, look: Look, masters: FrozenSet[int], family: Sequence[Master]) -> Tuple[int, ...]:
        """Workers of this instance without a master: only init reaps them, and they keep serving.

        A worker belongs to this instance when it shares a listening socket with one of its masters or, if no master is left,
        when it runs the instance's file, or the one that a swap has kept beside it. A title proves nothing: other instances
        may have orphans, too.
        """
        alone = [p.pid for p in look.by_pid.values() if WORKER.match(p.title) and p.ppid not in masters]
        alone = [pid for pid in alone if self.machine.same_pid_namespace(pid)]
        shared = {inode for master in family for inode in master.listeners}
        if family:
            return tuple(sorted(pid for pid in alone if shared & self.machine.socket_inodes(pid)))
        wanted = self.layout.binary and self.machine.real_path(self.layout.binary)
        files = (wanted, beside(wanted, "kept")) if wanted else ()
        return tuple(sorted(pid for pid in alone if self.machine.image_path(pid) in files and self.held(pid)))

    def _litter(
        self, path: Optional[str], named: Optional[int], oldbin: Optional[int], family: Sequence[Process]
    ) -> Tuple[str, ...]:
        """What sweep would remove. A `.oldbin` that names the same process as the pid file is stale, too: after a power cut the
        master may have been given the pid of the old one.
        """
        found = []
        if path:
            folder, name = os.path.split(path)
            found = [folder + "/" + one for one in self.machine.names(folder) if one.startswith("." + name + OWN_NAME)]
        stale = "%s%s" % (self.layout.pid_file, OLDBIN)
        elders = [one.pid for one in family if one.pid != named]
        if self.layout.pid_file and oldbin not in elders and self.machine.exists(stale):
            found.append(stale)
        return tuple(found)

    def _alone(self, look: Look, named: Optional[int], masters: FrozenSet[int]) -> Optional[int]:
        process = look.by_pid.get(named) if named is not None else None
        if process is None or process.pid in masters or process.ppid in masters or not self.held(process.pid):
            return None
        return process.pid if self._looks_like_nginx(process) else None

    def _looks_like_nginx(self, process: Process) -> bool:
        return "nginx" in os.path.basename(process.title.split(" ")[0])

    def _image_sha256(self, process: Process) -> Optional[str]:
        """The hash of the image, cached by identity *and* image: between fork and exec a new master shows its parent's."""
        key = (process.pid, process.start, process.stack, self.machine.image(process.pid))
        if key not in self._hashes:
            self._hashes[key] = self.machine.image_sha256(process.pid)
            if self._hashes[key] is not None:
                self.remembered.hashes[key] = self._hashes[key]
        return self._hashes[key]

    def _file_sha256(self, path: Optional[str]) -> Optional[str]:
        seen = self.machine.stat(path) if path else None
        if path is None or seen is None:
            return None
        key = (path, seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
        if key not in self._hashes:
            self._hashes[key] = self.machine.sha256(path)
            if self._hashes[key] is not None and self.machine.age_of_change_s(seen) > SETTLED_S:
                self.remembered.hashes[key] = self._hashes[key]
        return self._hashes[key]


def beside(path: str, word: str) -> str:
    """The name of one of fleet's own files in the folder of `path`: `new` is being written, `kept` is the old binary."""
    folder, name = os.path.split(path)
    return "%s/.%s%s%s" % (folder, name, OWN_NAME, word)


def argv_of(process: Process) -> Tuple[str, ...]:
    """The master's own arguments, from its title. An argument with a space in it comes apart: nothing can help that.

    A master that reads its configuration still has its arguments for a title.
    """
    found = MASTER.match(process.title)
    return tuple((found.group(1) if found else process.title).split())


def _masters(look: Look, named: Optional[int]) -> FrozenSet[int]:
    """Pids of all masters: those with the title, but for forked children that hang before they have a worker's; and
    a master's child that executed an image with its parent's arguments and hangs, or still reads its configuration.
    """
    titled = {process.pid: process for process in look.by_pid.values() if MASTER.match(process.title)}
    found = set(titled)
    for parent in titled.values():
        for child in look.children.get(parent.pid, ()):
            if _was_only_forked(look, child, parent) and child.pid != named:
                found.discard(child.pid)
            elif argv_of(child) == argv_of(parent):
                found.add(child.pid)
    return frozenset(found)


def _was_only_forked(look: Look, child: Process, parent: Process) -> bool:
    """Whether the child still runs the image it was forked with: then its stack begins where its parent's does.

    Without address space randomisation every stack begins there; a child that has workers of its own is a master.
    """
    has_workers = any(WORKER.match(one.title) for one in look.children.get(child.pid, ()))
    return child.stack == parent.stack and not has_workers


def _workers(look: Look, master: Process, masters: FrozenSet[int]) -> Tuple[Worker, ...]:
    """The master's children that serve, served, or should: not its child master, and no cache or privileged helper."""
    found = []
    for child in look.children.get(master.pid, ()):
        is_worker = bool(WORKER.match(child.title))
        if child.pid in masters or not (is_worker or MASTER.match(child.title)):
            continue
        found.append(Worker(child.pid, child.start, DRAINING in child.title, is_worker))
    return tuple(sorted(found))
