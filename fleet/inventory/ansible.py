"""Inventories that only Ansible or a program can read, taken as the JSON of `--list`.

INI, folders, plugins and anything else go through `ansible-inventory`, where it is installed, with Ansible's own
meaning of every word. An executable inventory is run directly: its JSON is a plain protocol. fleet does not depend on
ansible-core (70 MB, a narrow window of Pythons), and does not copy its parsers.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from fleet.errors import InventoryError
from fleet.inventory.host_names import BadName, checked_name
from fleet.inventory.tree import ALL, Origin, Problem, Tree, Variable

DEADLINE_S = 120.0
YAML_SUFFIXES = (".yaml", ".yml")


def is_executable(path: Path) -> bool:
    """Whether the file is a program: the x bit, and the beginning of a script or an ELF binary."""
    if not path.is_file() or not os.access(path, os.X_OK):
        return False
    with path.open("rb") as file:
        return file.read(4).startswith((b"#!", b"\x7fELF"))


def add_listed_by_ansible(tree: Tree, path: Path, problems: list[Problem]) -> None:
    """Adds what `ansible-inventory` reads in `path`. Raises `InventoryError` where it is not installed or refuses."""
    program = shutil.which("ansible-inventory")
    if program is None:
        raise InventoryError(
            f"this is {_kind(path)}, which fleet reads through ansible-inventory, and that is not installed here.",
            where=str(path),
            remedy="Install ansible-core, or give a YAML inventory: where Ansible is, "
            f"'ansible-inventory -i {path} --list --yaml --output flat.yaml' writes one.",
        )
    _add_json(tree, path, _run([program, "--list", "-i", str(path.absolute())], path), problems)


def _kind(path: Path) -> str:
    if path.is_dir():
        return "a folder"
    return "the configuration of an inventory plugin" if path.suffix in YAML_SUFFIXES else "no .yaml or .yml file"


def add_listed_by_itself(tree: Tree, path: Path, problems: list[Problem]) -> None:
    """Adds what the program at `path` prints for `--list`, and for `--host NAME` where the list has no `_meta`."""
    program = str(path.absolute())
    listed = _run([program, "--list"], path)
    _add_json(tree, path, listed, problems)
    if "_meta" not in listed:
        for name, entry in tree.hosts.items():
            if entry.origin.path == path:
                entry.variables.update(_variables(_run([program, "--host", name], path), Origin(path)))


def _run(argv: list[str], path: Path) -> dict[str, object]:
    """The JSON object that the program prints."""
    said = f"{Path(argv[0]).name} {argv[1]}"
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE_S, check=False)
    except OSError as error:
        raise InventoryError(f"can't be run: {error.strerror}.", where=str(path)) from error
    except subprocess.TimeoutExpired as error:
        raise InventoryError(f"{said} gave no answer in {DEADLINE_S:.0f} s.", where=str(path)) from error
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        reason = "".join(character if character.isprintable() else " " for character in lines[-1])
        raise InventoryError(f"{said} ended with {done.returncode}: {reason}", where=str(path))
    try:
        data = json.loads(done.stdout)
    except ValueError as error:
        raise InventoryError(f"{said} printed no JSON: {error}.", where=str(path)) from error
    if not isinstance(data, dict):
        raise InventoryError(f"{said} printed JSON, but no object of groups.", where=str(path))
    return data


def _add_json(tree: Tree, path: Path, data: Mapping[str, object], problems: list[Problem]) -> None:
    origin = Origin(path)
    for name, body in data.items():
        if name == "_meta":
            continue
        group = {"hosts": body} if isinstance(body, list) else body
        if not isinstance(group, dict):
            problems.append(Problem(origin, f"group {name} must be an object with hosts, vars, children"))
            continue
        for key in sorted(set(group) - {"hosts", "vars", "children"}):
            problems.append(Problem(origin, f"group {name} has an unknown key {key}; allowed: hosts, vars, children"))
        _add_group(tree, name, group, origin, problems)
    meta = data.get("_meta")
    hostvars = meta.get("hostvars") if isinstance(meta, dict) else None
    for name, variables in (hostvars if isinstance(hostvars, dict) else {}).items():
        if isinstance(variables, dict) and _is_name(name, origin, problems):
            tree.add_host(ALL, name, origin).variables.update(_variables(variables, origin))


def _add_group(tree: Tree, name: str, group: Mapping[str, object], origin: Origin, problems: list[Problem]) -> None:
    if not _is_name(name, origin, problems):
        return
    variables = group.get("vars") or {}
    if not isinstance(variables, dict):
        problems.append(Problem(origin, f"vars of group {name} must be an object"))
        variables = {}
    tree.group(name).variables.update(_variables(variables, origin))
    for host in _names(group, "hosts", name, origin, problems):
        tree.add_host(name, host, origin)
    for child in _names(group, "children", name, origin, problems):
        if not tree.add_child(name, child):
            problems.append(Problem(origin, f"group {child} would contain itself"))


def _names(group: Mapping[str, object], section: str, name: str, origin: Origin, problems: list[Problem]) -> list[str]:
    names = group.get(section) or []
    if not isinstance(names, list):
        problems.append(Problem(origin, f"{section} of group {name} must be a list of names"))
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
    return {str(name): Variable(value, _text(value), origin) for name, value in data.items()}


def _text(value: object) -> str:
    if isinstance(value, str):
        return value if value.isprintable() else json.dumps(value)
    return "" if value is None else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
