"""Whether the new binary can take over on this host: it runs here, and its build has the same paths and modules."""

from typing import List, Optional, Tuple

from fleet.onhost.nginx.binary import DEFAULTS, Build, ask_build, complaint, effective, read_build, read_elf
from fleet.onhost.nginx.command_line import CommandLine
from fleet.onhost.nginx.configuration import Configuration
from fleet.onhost.nginx.module_misfit import read_misfit
from fleet.onhost.preflight.subject import Subject
from fleet.onhost.protocol import Finding
from fleet.onhost.reasons.catalogue import finding
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
    "modules-path": "full paths in `load_module`",
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


def rejected(binary: str, line: str, also: str = "") -> Finding:
    """The refusal for a configuration that this binary rejects with this line: it may be a module that does not fit."""
    found = read_misfit(line, binary)
    if found is None:
        return finding("config_rejected", binary=binary, line=line, also=also)
    facts = {"module": found.module, "why": found.why, "cure": found.cure}
    return finding("module_mismatch", binary=binary, also=also, **facts)


def differs(subject: Subject, old: Optional[Build], new: Build, config: Optional[Configuration]) -> List[Finding]:
    """The differences between the two builds that matter to the running instance."""
    if old is None:
        return []
    found = []
    if new.server != old.server and not (new.server in COMPATIBLE and old.server in COMPATIBLE):
        found.append(finding("other_server", release=new.server, running=old.server))
    moved = moved_paths(old, new, subject.command, config)
    if moved:
        paths = "; ".join(_pair("--" + name, before, after) for name, before, after in moved)
        found.append(finding("paths_moved", paths=paths, how=_cure([name for name, _, _ in moved])))
    changed = _changed(old, new, [name for name, _, _ in moved], config)
    if changed:
        found.append(finding("build_differs", options=", ".join(changed)))
    gone = sorted(name for name in old.modules - new.modules if not name.startswith("without"))
    lost = sorted(name for name in new.modules - old.modules if name.startswith("without"))
    if gone or lost:
        found.append(finding("modules_gone", modules=", ".join(gone + [name[len("without-") :] for name in lost])))
    return found


def moved_paths(
    old: Build, new: Build, command: CommandLine, config: Optional[Configuration]
) -> List[Tuple[str, str, str]]:
    """The built-in paths that differ and that no argument or directive overrides: name, before, after.

    --prefix, --conf-path, --pid-path: the new binary would read other files, or write its pid to another file.
    --error-log-path: without `error_log` in the main context and without -e it would log to another file.
    --modules-path: nginx itself never uses it; it takes a relative `load_module` from the prefix. But the old build's modules
    lie there and the new build's elsewhere; only an absolute path tells which ones are meant.
    --sbin-path is ignored: a running nginx executes its argv[0].
    """
    found = []
    if not command.prefix and _option(old, "prefix") != _option(new, "prefix"):
        found.append(("prefix", _option(old, "prefix"), _option(new, "prefix")))
    for name in ("conf-path", "pid-path", "error-log-path", "modules-path"):
        before, after = effective(old, command, name), effective(new, command, name)
        if before != after and _counts(name, command, config):
            found.append((name, before, after))
    return found


def _counts(name: str, command: CommandLine, config: Optional[Configuration]) -> bool:
    """Whether no argument and no directive overrides the built-in path. `command` already covers -c."""
    if name == "pid-path":
        return config is None or not config.pid
    if name == "error-log-path":
        return not command.error_log and (config is None or not config.error_logs)
    if name == "modules-path":
        return config is not None and any(not path.startswith("/") for path in config.load_modules)
    return True


def _cure(names: List[str]) -> str:
    """How to give the running nginx the paths of these names."""
    arguments = [ARGUMENTS[name] for name in names if name in ARGUMENTS]
    directives = [DIRECTIVES[name] for name in names if name in DIRECTIVES]
    ways = ["restart nginx once with %s" % " and ".join(arguments)] if arguments else []
    ways += ["reload nginx with %s in the main context" % " and ".join(directives)] if directives else []
    return "or " + ", and ".join(ways)


def _changed(old: Build, new: Build, moved: List[str], config: Optional[Configuration]) -> List[str]:
    found = []
    for name in DEFAULTS:
        if name == "user" and config is not None and config.user:
            continue
        if name in moved or _option(old, name) == _option(new, name):
            continue
        found.append(_pair("--" + name, _option(old, name), _option(new, name)))
    return found


def _option(build: Build, name: str) -> str:
    return build.options.get(name) or DEFAULTS[name]


def _pair(name: str, before: str, after: str) -> str:
    return "%s was %s, is %s" % (name, before, after)
