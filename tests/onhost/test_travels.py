"""The step script runs on a host: Python 3.6 and newer, the standard library and psutil, nothing else of fleet.

Three nets, each finer than the last: the grammar of 3.6, an allow-list of imports, and real runs on every CPython that
this machine has (the header of the test run names them).
"""

import ast
import shutil
import subprocess
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import psutil
import pytest

import fleet.onhost
from fleet.onhost import protocol
from fleet.onhost.wire import decode, encode
from tests.support.onhost.pythons import Python, found_pythons

FOLDER = Path(fleet.onhost.__file__).parent
MODULES = tuple(sorted(FOLDER.rglob("*.py")))

# The standard library as 3.6 had it and 3.13 still has it; a new name here is a decision, not a convenience.
STANDARD = frozenset(
    """
    argparse base64 binascii bisect codecs collections contextlib copy ctypes datetime enum errno fcntl fnmatch
    functools gc glob grp hashlib hmac http io ipaddress itertools json locale math operator os platform pwd queue re
    resource runpy secrets select selectors shlex shutil signal site socket ssl stat string struct subprocess sys syslog
    tempfile termios textwrap threading time traceback types typing unicodedata urllib uuid zipfile zipimport zlib
    """.split()
)
# The two ways round an import statement.
DYNAMIC = frozenset({"__import__", "import_module", "exec", "eval"})

TRY_OUT = """
import importlib, os, sys

sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    importlib.import_module(name)

from fleet.onhost import protocol, wire
from fleet.onhost.system.machine import Machine

me = Machine().process(os.getpid())
assert me is not None and me.ppid == os.getppid(), me
for line in sys.stdin:
    kind, _, text = line.rstrip("\\n").partition(" ")
    print(wire.encode(wire.decode(getattr(protocol, kind), text)))
"""


def module_id(path: Path) -> str:
    return path.relative_to(FOLDER).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_every_module_keeps_to_the_grammar_of_python_3_6(path: Path) -> None:
    ast.parse(path.read_text(), filename=str(path), feature_version=(3, 6))


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_every_module_imports_only_what_a_host_has(path: Path) -> None:
    foreign = [name for name in imports(ast.parse(path.read_text())) if not travels(name)]

    assert not foreign, f"{path.name} imports {', '.join(foreign)}: not in STANDARD, not psutil, not fleet.onhost"


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_no_module_imports_behind_the_back_of_these_tests(path: Path) -> None:
    called = {name_of(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}

    assert not called & DYNAMIC


@pytest.mark.parametrize("python", found_pythons(), ids=lambda python: python.version)
def test_it_loads_and_speaks_the_same_protocol_on_every_python_here(python: Python, tmp_path: Path) -> None:
    pack(tmp_path)
    lines = [f"{type(value).__name__} {encode(value)}" for value in samples()]

    ran = subprocess.run(
        [python.executable, "-I", "-B", "-W", "error", "-c", TRY_OUT, str(tmp_path), *module_names()],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert ran.returncode == 0, f"Python {python.version}: {ran.stderr}"
    assert ran.stdout.splitlines() == [line.partition(" ")[2] for line in lines]


def test_the_samples_hold_every_type_of_the_protocol_and_survive_the_round_trip_here() -> None:
    for value in samples():
        assert decode(type(value), encode(value)) == value

    assert {type(value) for value in samples()} == set(protocol_types())


# The package as it travels


def pack(folder: Path) -> None:
    """`folder` holds what a host gets: an empty `fleet`, `fleet.onhost`, and psutil."""
    (folder / "fleet").mkdir()
    (folder / "fleet" / "__init__.py").touch()
    without_caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(FOLDER, folder / "fleet" / "onhost", ignore=without_caches)
    shutil.copytree(Path(psutil.__file__).parent, folder / "psutil", ignore=without_caches)


def module_names() -> list[str]:
    names = [".".join(("fleet", "onhost", *path.relative_to(FOLDER).with_suffix("").parts)) for path in MODULES]
    return [name.removesuffix(".__init__") for name in names]


# Imports


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def travels(name: str) -> bool:
    top = name.partition(".")[0]
    return top in STANDARD or top == "psutil" or name == "fleet.onhost" or name.startswith("fleet.onhost.")


def name_of(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


# One value of every protocol type with every field filled in, and one with nothing but what must be there


def protocol_types() -> list[Any]:
    return [kind for kind in vars(protocol).values() if isinstance(kind, type) and hasattr(kind, "_fields")]


def samples() -> list[Any]:
    return [value for kind in protocol_types() for value in (full(kind), scant(kind))]


def full(kind: Any) -> Any:
    return kind(**{name: a_value(hint) for name, hint in typing.get_type_hints(kind).items()})


def scant(kind: Any) -> Any:
    return kind(
        **{
            name: a_value(typing.get_type_hints(kind)[name])
            for name in kind._fields
            if name not in kind._field_defaults
        }
    )


def a_value(hint: Any) -> Any:
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Union:
        return a_value(inner[0])
    if typing.get_origin(hint) is tuple:
        return tuple(a_value(item) for item in inner if item is not Ellipsis)
    if hasattr(hint, "_fields"):
        return full(hint)
    if issubclass(hint, Enum):
        return list(hint)[-1]
    return {str: 'grün "1"\n', int: 7, float: 0.25, bool: True}[hint]
