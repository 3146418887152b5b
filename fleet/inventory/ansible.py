"""Inventories that fleet does not parse itself, read as the JSON that `--list` prints.

`ansible-inventory`, where it is installed, reads INI files, directories, inventory plugins and files in vault. It reads all
sources of such a command at once, so that they are merged as Ansible merges them. An executable inventory is run directly.
fleet does not depend on ansible-core (70 MB, few versions of Python) and does not copy its parsers.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fleet.errors import InventoryError
from fleet.inventory.host_names import BadName, checked_name, expand
from fleet.inventory.tree import ALL, VAULTED, Origin, Problem, Tree, Unknown, Variable, has_template, variable_text
from fleet.onhost.text import safe

DEADLINE_S = 120.0
YAML_SUFFIXES = (".yaml", ".yml")
VAULT_HEADER = b"$ANSIBLE_VAULT;"
UNPARSED_IS_FAILED = "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED"
UNPARSED = re.compile(r"Unable to parse (.+) as an inventory source")
GIVE_PASSWORD = "Give Ansible its password: `export ANSIBLE_VAULT_PASSWORD_FILE=FILE`, then run the command again."


def is_executable(path: Path) -> bool:
    """Whether the file is a program: it has the x bit and begins as a script or an ELF binary does."""
    return path.is_file() and os.access(path, os.X_OK) and _begins_with(path, b"#!", b"\x7fELF")


def is_vaulted(path: Path) -> bool:
    """Whether the whole file is encrypted by ansible-vault."""
    return path.is_file() and os.access(path, os.R_OK) and _begins_with(path, VAULT_HEADER)


def _begins_with(path: Path, *beginnings: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(VAULT_HEADER)).startswith(beginnings)


def add_listed_by_ansible(tree: Tree, paths: Sequence[Path], foreign: Path, problems: list[Problem]) -> None:
    """Adds what `ansible-inventory` reads from `paths`, the later ones over the earlier ones.

    Raises `InventoryError` if it fails, or is not installed; `foreign` is a source that needs it.
    """
    program = shutil.which("ansible-inventory")
    if program is None:
        raise _not_installed(foreign, paths)
    argv = [program, "--list"]
    for path in paths:
        argv += ["-i", _expanded(path, problems) if is_list_of_names(path) else str(path.absolute())]
    # By default Ansible leaves out what it can't read, and the hosts in it, with exit code 0. In a directory it still does
    # (a README is no inventory), and the operator is told so.
    strict = "ANSIBLE_INVENTORY_UNPARSED_FAILED" if any(map(Path.is_dir, paths)) else UNPARSED_IS_FAILED
    where = ", ".join(map(str, paths))
    remedy = f"See the whole message: `{_list_command(paths)}`."
    groups, complaints = _run(argv, where, {strict: "1", "ANSIBLE_NOCOLOR": "1"}, remedy)
    for name in dict.fromkeys(UNPARSED.findall(complaints)):
        tree.notes.append(f"Ansible can't read {name} as an inventory. fleet knows no host that is only there.")
    _add_json(tree, paths[0], {name: groups[name] for name in (*_in_order(groups), *groups)}, problems)


def _in_order(groups: Mapping[str, object]) -> list[str]:
    """The groups below `all`, as Ansible orders hosts; its JSON has the groups sorted by name."""
    found: dict[str, None] = {}
    waiting = [ALL]
    while waiting:
        name = waiting.pop(0)
        group = groups.get(name)
        if isinstance(group, dict) and name not in found:
            found[name] = None
            waiting = [*group.get("children", ()), *waiting]
    return list(found)


def _expanded(words: Path, problems: list[Problem]) -> str:
    """The list of names without ranges, which Ansible does not expand there."""
    found = []
    for name, port in listed_names(words, problems):
        found.append(name if port is None else f"[{name}]:{port}" if ":" in name else f"{name}:{port}")
    return ",".join(found) + ","


def listed_names(words: Path, problems: list[Problem]) -> Iterator[tuple[str, int | None]]:
    """The hosts, and their ports if there are any, of `web-01,web-[02:03],edge:2222,`."""
    for word in filter(None, str(words).split(",")):
        try:
            names, port = expand(word.strip())
        except BadName as error:
            problems.append(Problem(Origin(words), str(error)))
            continue
        yield from ((name, port) for name in names)


def is_list_of_names(path: Path) -> bool:
    """Whether `-i` was given names, as `web-01,web-02,`: Ansible reads a word with a comma as a list of hosts."""
    return "," in str(path) and not path.exists()


def is_for_ansible(path: Path) -> bool:
    """Whether only `ansible-inventory` can read this source; for a YAML file its content says more."""
    if is_list_of_names(path) or is_executable(path):
        return False
    return path.is_dir() or path.suffix not in YAML_SUFFIXES or is_vaulted(path)


def _not_installed(path: Path, paths: Sequence[Path]) -> InventoryError:
    secret = " --ask-vault-pass" if any(map(is_vaulted, paths)) else ""
    flatten = f"`{_list_command(paths)} --yaml --output flat.yaml{secret}`"
    return InventoryError(
        f"this is {_kind(path)}; fleet needs ansible-inventory to read it, which is not installed here.",
        where=str(path),
        remedy=f"Install ansible-core, or run {flatten} where it is installed and use flat.yaml.",
    )


def _list_command(paths: Sequence[Path]) -> str:
    return f"ansible-inventory {' '.join(f'-i {shlex.quote(str(path))}' for path in paths)} --list"


def _kind(path: Path) -> str:
    if path.is_dir():
        return "a directory"
    if is_vaulted(path):
        return "encrypted by ansible-vault"
    return "the configuration of an inventory plugin" if path.suffix in YAML_SUFFIXES else "not a .yaml or .yml file"


def add_listed_by_itself(tree: Tree, path: Path, problems: list[Problem]) -> None:
    """Adds what the program at `path` prints for `--list`, and for `--host NAME` if its list has no `_meta`."""
    program = str(path.absolute())
    groups, _ = _run([program, "--list"], str(path))
    _add_json(tree, path, groups, problems)
    if "_meta" not in groups:
        for name, entry in tree.hosts.items():
            if entry.origin.path == path:
                variables, _ = _run([program, "--host", name], str(path))
                entry.variables.update(_variables(variables, Origin(path)))


def _run(
    argv: list[str], where: str, environment: Mapping[str, str] | None = None, remedy: str = ""
) -> tuple[dict[str, object], str]:
    """The JSON object that the program prints, and its stderr. Raises `InventoryError`, with the remedy if it fails."""
    command = f"{Path(argv[0]).name} {argv[1]}"
    surroundings = {**(environment or {}), **os.environ}
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE_S, check=False, env=surroundings
        )
    except OSError as error:
        raise InventoryError(f"it can't be run: {error.strerror}.", where=where) from error
    except subprocess.TimeoutExpired as error:
        raise InventoryError(f"{command} did not end within {DEADLINE_S:.0f} s.", where=where) from error
    complaints = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode != 0:
        raise _failed(command, done.returncode, complaints, where, remedy)
    try:
        data = json.loads(done.stdout)
    except ValueError as error:
        raise InventoryError(f"{command} did not print valid JSON: {error}.", where=where) from error
    if not isinstance(data, dict):
        raise InventoryError(f"{command} did not print a JSON object of groups.", where=where)
    return data, complaints


def _failed(command: str, code: int, complaints: str, where: str, remedy: str) -> InventoryError:
    lines = complaints.splitlines() or ["no message"]
    about_vault = [line for line in lines if "vault" in line.lower()]
    line = safe((about_vault or lines)[-1])
    stop = "" if line.endswith(".") else "."
    return InventoryError(
        f"{command} exited with {code}: {line}{stop}", where=where, remedy=GIVE_PASSWORD if about_vault else remedy
    )


def _add_json(tree: Tree, path: Path, data: Mapping[str, object], problems: list[Problem]) -> None:
    origin = Origin(path)
    listed: set[str] = set()
    for name, body in data.items():
        if name == "_meta":
            continue
        group = {"hosts": body} if isinstance(body, list) else body
        if not isinstance(group, dict):
            problems.append(Problem(origin, f"group {name} must be an object with hosts, vars, children."))
            continue
        for key in sorted(set(group) - {"hosts", "vars", "children"}):
            problems.append(Problem(origin, f"group {name} has an unknown key {key}; allowed: hosts, vars, children."))
        listed.update(_add_group(tree, name, group, origin, problems))
    meta = data.get("_meta")
    hostvars = meta.get("hostvars") if isinstance(meta, dict) else None
    for name, variables in (hostvars if isinstance(hostvars, dict) else {}).items():
        # A host that is in no group does not exist for Ansible.
        if isinstance(variables, dict) and name in listed:
            tree.hosts[name].variables.update(_variables(variables, origin))


def _add_group(
    tree: Tree, name: str, group: Mapping[str, object], origin: Origin, problems: list[Problem]
) -> list[str]:
    """Adds one group; returns the names of its own hosts."""
    if not _is_name(name, origin, problems):
        return []
    variables = group.get("vars") or {}
    if not isinstance(variables, dict):
        problems.append(Problem(origin, f"vars of group {name} must be an object."))
        variables = {}
    tree.group(name)
    for key, variable in _variables(variables, origin).items():
        tree.set_group_variable(name, key, variable, problems)
    hosts = _names(group, "hosts", name, origin, problems)
    for host in hosts:
        tree.add_host(name, host, origin)
    for child in _names(group, "children", name, origin, problems):
        if not tree.add_child(name, child):
            problems.append(Problem(origin, f"group {child} contains itself; remove it from the children of {name}."))
    return hosts


def _names(group: Mapping[str, object], section: str, name: str, origin: Origin, problems: list[Problem]) -> list[str]:
    names = group.get(section) or []
    if not isinstance(names, list):
        problems.append(Problem(origin, f"{section} of group {name} must be a list of names."))
        return []
    return [str(one) for one in names if _is_name(str(one), origin, problems)]


def _is_name(name: str, origin: Origin, problems: list[Problem]) -> bool:
    try:
        checked_name(name)
    except BadName as error:
        problems.append(Problem(origin, str(error)))
        return False
    return True


def _variables(data: Mapping[str, object], origin: Origin) -> dict[str, Variable]:
    return {str(name): json_variable(value, origin) for name, value in data.items()}


def json_variable(value: object, origin: Origin) -> Variable:
    """The variable with that value of a JSON document, in which Ansible marks what is encrypted and what is literal."""
    plain = _plain(value)
    return Variable(plain, variable_text(plain), origin, _unknown(value))


def _plain(value: object) -> object:
    if isinstance(value, dict):
        if "__ansible_vault" in value:
            return VAULTED
        if "__ansible_unsafe" in value:
            return value["__ansible_unsafe"]
        return {str(key): _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value


def _unknown(value: object) -> Unknown | None:
    """Why only Ansible can tell the value, or a part of it."""
    if isinstance(value, str):
        return Unknown.JINJA if has_template(value) else None
    if isinstance(value, dict) and "__ansible_vault" in value:
        return Unknown.VAULT
    if isinstance(value, dict) and "__ansible_unsafe" in value:
        return None
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    found = {_unknown(part) for part in parts}
    return next((kind for kind in (Unknown.VAULT, Unknown.JINJA) if kind in found), None)
