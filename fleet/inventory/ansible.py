"""Inventories that fleet does not parse itself, read as the JSON that `--list` prints.

`ansible-inventory`, where it is installed, reads INI files, directories and inventory plugins. An executable inventory is
run directly. fleet does not depend on ansible-core (70 MB, few versions of Python) and does not copy its parsers.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from fleet.errors import InventoryError
from fleet.inventory.host_names import BadName, checked_name
from fleet.inventory.tree import ALL, Origin, Problem, Tree, Variable, flatten_command, variable_text
from fleet.onhost.text import safe

DEADLINE_S = 120.0
YAML_SUFFIXES = (".yaml", ".yml")


def is_executable(path: Path) -> bool:
    """Whether the file is a program: it has the x bit and begins as a script or an ELF binary does."""
    if not path.is_file() or not os.access(path, os.X_OK):
        return False
    with path.open("rb") as file:
        return file.read(4).startswith((b"#!", b"\x7fELF"))


def add_listed_by_ansible(tree: Tree, path: Path, problems: list[Problem]) -> None:
    """Adds what `ansible-inventory` reads from `path`. Raises `InventoryError` if it is not installed or fails."""
    program = shutil.which("ansible-inventory")
    if program is None:
        raise InventoryError(
            f"this is {_kind(path)}; fleet needs ansible-inventory to read it, which is not installed here.",
            where=str(path),
            remedy=f"Install ansible-core, or run {flatten_command(path)} where it is installed and use flat.yaml.",
        )
    _add_json(tree, path, _run([program, "--list", "-i", str(path.absolute())], path), problems)


def _kind(path: Path) -> str:
    if path.is_dir():
        return "a directory"
    return "the configuration of an inventory plugin" if path.suffix in YAML_SUFFIXES else "not a .yaml or .yml file"


def add_listed_by_itself(tree: Tree, path: Path, problems: list[Problem]) -> None:
    """Adds what the program at `path` prints for `--list`, and for `--host NAME` if its list has no `_meta`."""
    program = str(path.absolute())
    groups = _run([program, "--list"], path)
    _add_json(tree, path, groups, problems)
    if "_meta" not in groups:
        for name, entry in tree.hosts.items():
            if entry.origin.path == path:
                entry.variables.update(_variables(_run([program, "--host", name], path), Origin(path)))


def _run(argv: list[str], path: Path) -> dict[str, object]:
    """The JSON object that the program prints. Raises `InventoryError`."""
    command = f"{Path(argv[0]).name} {argv[1]}"
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE_S, check=False)
    except OSError as error:
        raise InventoryError(f"it can't be run: {error.strerror}.", where=str(path)) from error
    except subprocess.TimeoutExpired as error:
        raise InventoryError(f"{command} did not end within {DEADLINE_S:.0f} s.", where=str(path)) from error
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"]
        raise InventoryError(f"{command} exited with {done.returncode}: {safe(lines[-1])}", where=str(path))
    try:
        data = json.loads(done.stdout)
    except ValueError as error:
        raise InventoryError(f"{command} did not print valid JSON: {error}.", where=str(path)) from error
    if not isinstance(data, dict):
        raise InventoryError(f"{command} did not print a JSON object of groups.", where=str(path))
    return data


def _add_json(tree: Tree, path: Path, data: Mapping[str, object], problems: list[Problem]) -> None:
    origin = Origin(path)
    for name, body in data.items():
        if name == "_meta":
            continue
        group = {"hosts": body} if isinstance(body, list) else body
        if not isinstance(group, dict):
            problems.append(Problem(origin, f"group {name} must be an object with hosts, vars, children."))
            continue
        for key in sorted(set(group) - {"hosts", "vars", "children"}):
            problems.append(Problem(origin, f"group {name} has an unknown key {key}; allowed: hosts, vars, children."))
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
        problems.append(Problem(origin, f"vars of group {name} must be an object."))
        variables = {}
    tree.group(name).variables.update(_variables(variables, origin))
    for host in _names(group, "hosts", name, origin, problems):
        tree.add_host(name, host, origin)
    for child in _names(group, "children", name, origin, problems):
        if not tree.add_child(name, child):
            problems.append(Problem(origin, f"group {child} contains itself; remove it from the children of {name}."))


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
    return {str(name): Variable(value, variable_text(value), origin) for name, value in data.items()}
