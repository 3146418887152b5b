"""Reads `group_vars` and `host_vars`: the variables of a group or host in files of its own, as Ansible finds them.

Ansible reads the folders beside each inventory, and those of the directory it is run in; so does fleet, unless everybody may
write to that directory: a variable can name a command that runs here (`ProxyCommand`). The variables of `web` are in `web`,
`web.yml`, `web.yaml` or `web.json`, the first that exists; it may be a directory of such files. A file in vault is left out,
and the operator is told so: it mostly holds secrets, which fleet has no use for.
"""

import json
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fleet.errors import InventoryError
from fleet.inventory.ansible import is_vaulted, json_variable
from fleet.inventory.tree import (
    GROUP_VARS,
    HOST_VARS,
    VARIABLE_FOLDERS,
    FolderVariables,
    Origin,
    Problem,
    Tree,
    Variable,
)
from fleet.inventory.yaml_file import variables_in
from fleet.onhost.text import listed

SUFFIXES = ("", ".yml", ".yaml", ".json")


def add_variable_folders(tree: Tree, beside: Sequence[Path], problems: list[Problem]) -> None:
    """Adds the variables in the folders of each directory, the last one strongest, and those of the working directory.

    Raises `InventoryError`.
    """
    reader = _Reader(problems)
    directories = [path.absolute() for path in beside]
    here = _working_directory()
    if here is not None and (here in directories or not _is_open_to_all(here)):
        directories.append(here)
    elif here is not None and any((here / name).is_dir() for name in VARIABLE_FOLDERS):
        tree.notes.append(f"Variables in {here} are not read: everybody may write to that directory.")
    for directory in dict.fromkeys(reversed(directories)):
        found = FolderVariables(
            reader.named(directory / GROUP_VARS, tree.groups), reader.named(directory / HOST_VARS, tree.hosts)
        )
        tree.folders.insert(0, found)
    if reader.vaulted:
        names = listed([_shown(path) for path in sorted(reader.vaulted)], 3)
        tree.notes.append(f"Files in vault are not read: {names}. fleet does not know the variables in them.")


def _working_directory() -> Path | None:
    """The working directory; `None` if it was removed."""
    try:
        return Path.cwd()
    except OSError:
        return None


def _is_open_to_all(directory: Path) -> bool:
    return bool(directory.stat().st_mode & stat.S_IWOTH)


class _Reader:
    """Reads files of variables, and keeps the paths of those that are encrypted."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        self.vaulted: set[Path] = set()

    def named(self, folder: Path, names: Mapping[str, object]) -> dict[str, dict[str, Variable]]:
        """The variables of each name that has a file in the folder."""
        if not folder.is_dir():
            return {}
        return {name: self.merged(files) for name in names if (files := list(_files(folder, name)))}

    def merged(self, files: Sequence[Path]) -> dict[str, Variable]:
        merged: dict[str, Variable] = {}
        for file in files:
            if is_vaulted(file):
                self.vaulted.add(file)
            elif file.suffix == ".json":
                merged.update(_json_variables(file))
            else:
                merged.update(variables_in(file, self.problems))
        return merged


def _files(folder: Path, name: str) -> Iterator[Path]:
    found = next((path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").exists()), None)
    if found is not None:
        yield from _files_in(found) if found.is_dir() else (found,)


def _files_in(folder: Path) -> Iterator[Path]:
    """The files of variables in a directory, by name; hidden ones, copies of editors and other suffixes are left out."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name.endswith("~") or path.suffix not in SUFFIXES:
            continue
        if path.is_file():
            yield path
        elif path.is_dir() and not path.suffix:
            yield from _files_in(path)


def _json_variables(file: Path) -> dict[str, Variable]:
    try:
        data = json.loads(file.read_bytes())
    except OSError as error:
        raise InventoryError(f"it can't be read: {error.strerror}.", where=str(file)) from error
    except ValueError as error:
        raise InventoryError(f"not valid JSON: {error}.", where=str(file)) from error
    if not isinstance(data, dict):
        raise InventoryError("a file of variables must be an object of names and values.", where=str(file))
    return {name: json_variable(value, Origin(file)) for name, value in data.items()}


def _shown(path: Path) -> str:
    """The path from the working directory, if it is below it."""
    here = _working_directory()
    return str(path.relative_to(here) if here is not None and path.is_relative_to(here) else path)
