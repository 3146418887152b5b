"""Whether the new binary can take over on this host: it runs here, and its build has the same paths and modules."""

from typing import List, Optional, Tuple

from fleet.onhost.nginx.binary import DEFAULTS, Build, ask_build, complaint, effective, read_build, read_elf
from fleet.onhost.nginx.command_line import CommandLine
from fleet.onhost.nginx.config_files import ConfigFiles
from fleet.onhost.preflight.differences import came_up, modules_gone
from fleet.onhost.preflight.subject import Subject
from fleet.onhost.protocol import Finding
from fleet.onhost.reasons.catalogue import finding
from fleet.onhost.rehearsal.evidence import Rehearsal
from fleet.onhost.system.machine import Ran

NOT_LOADED = (
    "error while loading shared libraries",
    "symbol lookup error",
    "Error loading shared library",
    "not found",
)


COMPATIBLE = ("nginx", "openresty", "Tengine", "freenginx")


# What overrides a built-in path.
ARGUMENTS = {"prefix": "-p", "conf-path": "-c"}


DIRECTIVES = {
    "pid-path": "a `pid` directive",
    "error-log-path": "an `error_log` directive",
}


def runs(subject: Subject) -> Tuple[List[Finding], Optional[Build]]:
    """Whether the release can be executed on this host, and its build."""
    machine, staged = subject.machine, subject.staged
    if staged is None:
        return [finding("not_staged")], None
    ours, theirs = read_elf(machine, subject.image), read_elf(machine, staged)
    if theirs is None or (ours is not None and ours.kind != theirs.kind):
        release = "not an ELF file" if theirs is None else "built for " + theirs.kind
        return [
            finding("wrong_architecture", release=release, running=ours.kind if ours else "of an unknown kind")
        ], None
    if theirs.loader and machine.stat(theirs.loader) is None:
        return [finding("loader_missing", loader=theirs.loader)], None
    ran = ask_build(machine, staged)
    build = read_build(ran.output) if ran.code == 0 else None
    return ([] if build else [_why_not(ran)]), build


def _why_not(ran: Ran) -> Finding:
    lines = [line for line in ran.output.splitlines() if any(word in line for word in NOT_LOADED)]
    if ran.code == 127 and lines:
        return finding("library_missing", line=lines[0])
    how = "was ended by signal %d" % -ran.code if ran.code < 0 else "exited with code %d" % ran.code
    return finding("cannot_run", how=how + (": " + complaint(ran.output) if ran.output.strip() else ""))


def differs(
    subject: Subject,
    old: Optional[Build],
    new: Build,
    config: Optional[ConfigFiles],
    rehearsal: Optional[Rehearsal],
) -> List[Finding]:
    """The differences between the two builds that matter to the running instance."""
    if old is None:
        return []
    found = []
    if not are_compatible(old, new):
        found.append(finding("other_server", release=new.server, running=old.server))
    moved = moved_paths(old, new, subject.command) + _moved_files(subject, old, new, config, rehearsal)
    if moved:
        paths = "; ".join(_pair("--" + name, before, after) for name, before, after in moved)
        found.append(finding("paths_moved", paths=paths, how=_cure([name for name, _, _ in moved])))
    same_user = _same_user(config, rehearsal)
    changed = _changed(old, new, [name for name, _, _ in moved] + (["user"] if same_user else []))
    if changed:
        found.append(finding("build_differs", options=", ".join(changed)))
    gone = sorted(name for name in old.modules - new.modules if not name.startswith("without"))
    lost = sorted(name for name in new.modules - old.modules if name.startswith("without"))
    gone += [name[len("without-") :] for name in lost] + modules_gone(rehearsal)
    if gone:
        found.append(finding("modules_gone", modules=", ".join(gone)))
    return found


def are_compatible(old: Build, new: Build) -> bool:
    """Whether these two hand sockets over in the same way."""
    return new.server == old.server or (new.server in COMPATIBLE and old.server in COMPATIBLE)


def moved_paths(old: Build, new: Build, command: CommandLine) -> List[Tuple[str, str, str]]:
    """The built-in paths of what nginx reads that differ and that no argument overrides: name, before, after.

    --sbin-path is ignored: a running nginx executes its argv[0]. So is --modules-path: nginx itself never uses it.
    """
    found = []
    if not command.prefix and _option(old, "prefix") != _option(new, "prefix"):
        found.append(("prefix", _option(old, "prefix"), _option(new, "prefix")))
    before, after = effective(old, command, "conf-path"), effective(new, command, "conf-path")
    return found + ([("conf-path", before, after)] if before != after else [])


def _moved_files(
    subject: Subject, old: Build, new: Build, config: Optional[ConfigFiles], rehearsal: Optional[Rehearsal]
) -> List[Tuple[str, str, str]]:
    """As `moved_paths`, of what nginx writes: its pid file and its first error log. In a rehearsal that is seen."""
    command = subject.command
    moved = {
        "pid-path": _has_no(config, "pid"),
        "error-log-path": _has_no(config, "error_log") and not command.error_log,
    }
    now, was = (came_up(one) for one in (rehearsal.new, rehearsal.old)) if rehearsal is not None else (None, None)
    if now is not None and was is not None:
        moved = {"pid-path": now.pid_file != was.pid_file, "error-log-path": now.error_log != was.error_log}
    found = []
    for name, is_moved in sorted(moved.items()):
        before, after = effective(old, command, name), effective(new, command, name)
        if is_moved and before != after:
            found.append((name, before, after))
    return found


def _has_no(config: Optional[ConfigFiles], name: str) -> bool:
    return config is None or not config.has(name)


def _same_user(config: Optional[ConfigFiles], rehearsal: Optional[Rehearsal]) -> bool:
    """Whether workers of both builds run as the same user, whatever is built in."""
    now, was = (came_up(one) for one in (rehearsal.new, rehearsal.old)) if rehearsal is not None else (None, None)
    if now is not None and was is not None:
        return now.user == was.user
    return not _has_no(config, "user")


def _cure(names: List[str]) -> str:
    """How to give the running nginx the paths of these names."""
    arguments = [ARGUMENTS[name] for name in names if name in ARGUMENTS]
    directives = [DIRECTIVES[name] for name in names if name in DIRECTIVES]
    ways = ["restart nginx once with %s" % " and ".join(arguments)] if arguments else []
    ways += ["reload nginx with %s in the main context" % " and ".join(directives)] if directives else []
    return "or " + ", and ".join(ways)


def _changed(old: Build, new: Build, said: List[str]) -> List[str]:
    """The options whose values differ, but for those that are said elsewhere."""
    names = [name for name in DEFAULTS if name not in said and _option(old, name) != _option(new, name)]
    return [_pair("--" + name, _option(old, name), _option(new, name)) for name in names]


def _option(build: Build, name: str) -> str:
    return build.options.get(name) or DEFAULTS[name]


def _pair(name: str, before: str, after: str) -> str:
    return "%s was %s, is %s" % (name, before, after)
