"""Whether this is the right master, and whether it will act on USR2 and the signals that follow.

nginx ignores USR2 while its parent is the process that started it (`getppid() == ngx_parent`) and during an upgrade; a
single process never handles it; a master that can't find its own file fails at it. Each case has its own reason word,
because each has its own remedy (docs/nginx-facts.md, section 2).
"""

import os
import re
from typing import List, Optional, Tuple

from fleet.onhost.nginx.command_line import read_command_line
from fleet.onhost.nginx.config_files import ConfigFiles
from fleet.onhost.nginx.signals import hearing
from fleet.onhost.observation import Master, Observation
from fleet.onhost.preflight.subject import Subject
from fleet.onhost.protocol import Finding, Record, Request, State
from fleet.onhost.reasons.catalogue import finding
from fleet.onhost.rehearsal.evidence import Rehearsal
from fleet.onhost.system.machine import Machine

OFF = re.compile(r"(^|[\s;])%s\s+off\s*;")
SESSION = 3  # Index after the name in /proc/PID/stat.


def the_master(
    machine: Machine, request: Request, seen: Observation, record: Optional[Record]
) -> Tuple[List[Finding], Optional[Master]]:
    """The one master to judge, or why there is none.

    Two masters left by a rollout to the same release are neither judged nor a finding: the upgrade continues from there.
    """
    if not seen.masters:
        return [_none(machine, seen)], None
    if len(seen.masters) == 1:
        left = record if left_swapped(seen, record) else None
        return ([], seen.masters[0]) if left is None or _continues(request, left) else ([in_progress(left)], None)
    if record is None or record.state is not State.BEGUN or not _is_upgrading(seen):
        return [_several(seen)], None
    return ([] if _continues(request, record) else [in_progress(record)]), None


def left_swapped(seen: Observation, record: Optional[Record]) -> bool:
    """Whether the rollout of the record put its release at the path and ended there."""
    if record is None or record.state is not State.BEGUN or len(seen.masters) != 1:
        return False
    runs = seen.masters[0].sha256
    return seen.path_sha256 == record.target and runs == record.before_process and runs != record.target


def _continues(request: Request, record: Record) -> bool:
    """Whether this request continues the rollout of the record."""
    return record.rollout == request.rollout or (request.goal is not None and record.target == request.goal.target)


def in_progress(record: Record) -> Finding:
    """The refusal for a host that another rollout holds."""
    return finding(
        "upgrade_in_progress",
        whose="rollout %s by %s, since %s" % (record.rollout, record.operator, record.at),
        finish="`fleet commit %s`" % record.rollout,
        undo="`fleet rollback %s`" % record.rollout,
    )


def _none(machine: Machine, seen: Observation) -> Finding:
    if seen.alone is not None:
        return finding("master_process_off", pid=seen.alone)
    others = [pid for pid in seen.others if machine.same_pid_namespace(pid)]
    if len(others) > 1:
        return finding("several_masters", masters=_listed(machine, others))
    named = " (the pid file %s names none)" % seen.pid_file if seen.pid_file else ""
    hidden = [pid for pid in seen.others if not machine.same_pid_namespace(pid)]
    if hidden:
        named += "; %s runs in a PID namespace of its own, such as a container's: do not start another one" % (
            _listed(machine, hidden)
        )
    if seen.orphans:
        # They hold the port, so an nginx that is started now could not bind it.
        pids = ", ".join(map(str, seen.orphans))
        named += "; workers %s of a dead master still serve and hold its ports: end them first with `kill -QUIT %s`" % (
            pids,
            pids.replace(",", ""),
        )
    return finding("no_master", named=named)


def _several(seen: Observation) -> Finding:
    old, new = seen.masters[0], seen.masters[1]
    if _is_upgrading(seen):
        return finding(
            "upgrade_in_progress",
            whose="two masters run, and pid %d is the child of pid %d" % (new.pid, old.pid),
            finish="`kill -QUIT %d` ends the old master" % old.pid,
            undo="`kill -HUP %d`, then `kill -QUIT %d`" % (old.pid, new.pid),
        )
    if _are_parent_and_child(seen):
        return finding("previous_master", pid=new.pid, older=old.pid)
    return finding("several_masters", masters=", ".join("pid %d" % one.pid for one in seen.masters))


def _is_upgrading(seen: Observation) -> bool:
    """Whether a master and its child run, and the older one still has its listening sockets."""
    return _are_parent_and_child(seen) and bool(seen.masters[0].listeners)


def _are_parent_and_child(seen: Observation) -> bool:
    return len(seen.masters) == 2 and seen.masters[1].ppid == seen.masters[0].pid


def _listed(machine: Machine, pids: List[int]) -> str:
    processes = [machine.process(pid) for pid in pids]
    return ", ".join("pid %d (%s)" % (one.pid, one.title) for one in processes if one is not None)


def pid_file(subject: Subject) -> List[Finding]:
    """Whether the pid file names the master. With another one USR2 would fail, and poison the master."""
    path, pid = subject.seen.pid_file, subject.old.pid
    if path is None:
        return [finding("not_checked", what="the pid file", why="its path is not known; set `nginx_pid_file`")]
    held = subject.machine.read(path)
    if held is None:
        return [finding("pid_file_missing", path=path, pid=pid)]
    if not held.strip():
        return [finding("pid_file_empty", path=path, pid=pid)]
    if held.strip() != str(pid):
        return [finding("pid_file_wrong", path=path, pid=pid, held=held.strip()[:40])]
    return []


def obeys(subject: Subject, config: Optional[ConfigFiles]) -> List[Finding]:
    """Whether the master will act on USR2 and WINCH, by what is seen of it. `config` is `None` when it can't be read."""
    old = subject.old
    found = _foreground(subject) if _is_no_daemon(subject) else []
    if _older(subject) is not None:
        found.append(finding("previous_master", pid=old.pid, older=_older(subject)))
    if not subject.command.program.startswith("/"):
        found.append(finding("relative_argv0", pid=old.pid, program=subject.command.program))
    if is_single_process(subject, config):
        found.append(finding("master_process_off", pid=old.pid))
    if old.stopped:
        found.append(finding("stopped", pid=old.pid))
        return found  # What it does not act on then says nothing about its signal masks.
    return found + deaf(subject)


def deaf(subject: Subject) -> List[Finding]:
    """The signals that the master can't hear, and those that it was sent and has not acted on."""
    pid = subject.old.pid
    hears = hearing(subject.machine, pid)
    found = []
    if hears.unheard:
        found.append(finding("signals_unheard", pid=pid, signals=hears))
    if hears.pending:
        found.append(finding("signal_pending", pid=pid, signals=", ".join(hears.pending)))
    return found


def stays_in_foreground(
    subject: Subject, config: Optional[ConfigFiles], rehearsal: Optional[Rehearsal]
) -> List[Finding]:
    """Whether the configuration keeps nginx in the foreground, where its process does not show that.

    In a rehearsal it is seen. Else the text of the files has to do.
    """
    if _is_no_daemon(subject):
        return []
    old = rehearsal.old if rehearsal is not None else None
    if old is not None and old.fault is None:
        return [] if old.daemon else _foreground(subject)
    return _foreground(subject) if config is not None and "off" in config.values("daemon") else []


def is_single_process(subject: Subject, config: Optional[ConfigFiles]) -> bool:
    """Whether nginx would run as a single process, by its arguments or the text of its files."""
    return _is_off("master_process", subject) or (config is not None and "off" in config.values("master_process"))


def _is_no_daemon(subject: Subject) -> bool:
    """Whether the process shows that it is no daemon.

    A daemon has its own session, or that of its first generation. A process in its parent's session is none.
    """
    machine, old = subject.machine, subject.old
    session = _session(machine, old.pid)
    never = session is not None and session == _session(machine, old.ppid) and _older(subject) is None
    return old.pid == 1 or never or _is_off("daemon", subject)


def _foreground(subject: Subject) -> List[Finding]:
    """The finding for a master that is, or seems to be, no daemon."""
    machine, old = subject.machine, subject.old
    if old.pid == 1:
        return [finding("pid_1")]
    above = machine.process(old.ppid)
    parent = _name(above.title) if above else "a process outside this container"
    return [finding("supervised" if old.ppid > 1 else "daemon_off", pid=old.pid, parent=parent, ppid=old.ppid)]


def _is_off(name: str, subject: Subject) -> bool:
    return bool(re.search(OFF.pattern % name, subject.command.directives))


def _name(title: str) -> str:
    return os.path.basename(title.split(" ")[0].rstrip(":"))


def _session(machine: Machine, pid: int) -> Optional[int]:
    fields = (machine.read("/proc/%d/stat" % pid) or "").rpartition(")")[2].split()
    return int(fields[SESSION]) if len(fields) > SESSION else None


def _older(subject: Subject) -> Optional[int]:
    """The master that this one descends from, if it still lives: its parent, or the process that `.oldbin` names."""
    masters = [one.pid for one in subject.seen.masters] + list(subject.seen.others)
    for pid in (subject.old.ppid, subject.seen.oldbin_pid):
        if pid is not None and pid in masters and pid != subject.old.pid:
            return pid
    return None


def at_its_path(subject: Subject) -> List[Finding]:
    """Whether the file that USR2 would execute exists, is the running binary, and belongs to this instance alone."""
    machine, old, path = subject.machine, subject.old, subject.seen.path
    if path is None:
        return [] if not subject.command.program.startswith("/") else [_not_there(subject, subject.command.program)]
    elsewhere = other_view(subject, path)
    if elsewhere:
        return [finding("other_root", pid=old.pid, why=elsewhere, path=path)]
    if machine.stat(path) is None:
        return [_not_there(subject, path)]
    found = []
    if subject.seen.path_sha256 != old.sha256 and not left_swapped(subject.seen, subject.record):
        running, file = ((one or "unreadable")[:12] for one in (old.sha256, subject.seen.path_sha256))
        found.append(finding("path_differs", pid=old.pid, running=running, path=path, file=file))
    return found + _shared(subject, path)


def _not_there(subject: Subject, path: str) -> Finding:
    return finding("binary_missing", path=path, pid=subject.old.pid)


def other_view(subject: Subject, path: str) -> Optional[str]:
    """Why the master sees other files than fleet does, or `None`."""
    machine, pid = subject.machine, subject.old.pid
    root = machine.real_path("/proc/%d/root" % pid)
    if not root.startswith("/proc/") and root != "/":
        return "its root is %s" % root
    there, here = machine.stat("/proc/%d/root%s" % (pid, path)), machine.stat(path)
    if there is None or here is None:
        return "only one of nginx and fleet sees the file" if (there is None) != (here is None) else None
    same = (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
    return None if same else "it has a mount namespace of its own"


def _shared(subject: Subject, path: str) -> List[Finding]:
    """Whether the master of another instance would execute the same file."""
    machine = subject.machine
    here = machine.stat(path)
    for pid in subject.seen.others:
        other = machine.process(pid)
        if other is None or here is None:
            continue
        title = other.title.partition("master process")[2].strip() or other.title
        program = read_command_line(title.split(" ")).program
        theirs = machine.stat("/proc/%d/root/%s" % (pid, program.lstrip("/"))) if program.startswith("/") else None
        files = [(seen.st_dev, seen.st_ino) for seen in (theirs,) if seen is not None] + [machine.image(pid)]
        if (here.st_dev, here.st_ino) in files:
            return [finding("shared_binary", path=path, other=pid, title=other.title)]
    return []
