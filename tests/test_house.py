"""The rules of the house that no linter knows: what may stand in the tree, how long things get, which door is whose.

The tree is what git would commit: the tracked files, and the new ones that are not ignored.
"""

import ast
import re
import subprocess
import tokenize
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import click
import pytest

import fleet
from fleet.cli import fleet as commands
from fleet.lab.hosts import systemd
from fleet.lab.requirements import PROGRAMS
from tests.support.order import LONG_MODULES
from tests.support.places import ROOT
from tests.support.rooms import LONGEST_MODULE, MOST_MODULES, SHARED_STEMS, WHOLE_SYSTEM
from tests.support.skips import ALLOWED, allowed_skips, objection
from tests.support.weak_tests import BY_NOT_RAISING, weak_tests

FLEET = ROOT / "fleet"
MODULES = tuple(sorted(FLEET.rglob("*.py")))
TESTS = tuple(sorted((ROOT / "tests").rglob("test_*.py")))
PACKAGES = tuple(path for path in MODULES if path.name == "__init__.py")

LONGEST_FUNCTION = 40

# Put together from parts, so that this file doesn't hold what it forbids.
REGISTRIES = re.compile(
    "|".join(
        re.escape(".".join(name))
        for name in (("pypi", "org"), ("pythonhosted", "org"), ("pkg", "dev"), ("npmjs", "org"))
    )
    + "|".join(
        (
            "",
            "artifact" + r"[a-z-]*\.(?:com|org|dev)",
            "--(?:extra-)?" + "index-url",
            "--find" + "-links",
            "--trusted" + "-host",
        )
    )
)
LOCKS = re.compile(r"(?:^|/)(?:uv\.lock|poetry\.lock|pdm\.lock|Pipfile\.lock|pylock[^/]*\.toml)$")
HOMES = re.compile(r"(?<![\w.])/(?:work|Users|home/(?!deploy/)[a-z]+|root/\.[a-z]+)/")
# Debian has them only where they were installed by hand; ./dev installs enough.
NOT_EVERYWHERE = re.compile(r"\b(?:curl|wget|lsof|strace|socat|jq)\b")
LATER = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")

NAMED_FILE = re.compile(r"(?<![\w/.-])(?:tests|docs|fleet)/[a-z0-9_./-]*\.(?:py|md|json|txt|sh)\b")

FACES = ("fleet.ui", "fleet.cli", "fleet.commands", "fleet.runs")
# The modules that may import a library with one door. A name covers the modules below it.
DOORS = {
    "fabric": ("fleet.ssh",),
    "paramiko": ("fleet.ssh",),
    "scp": ("fleet.ssh",),
    "invoke": (),
    "psutil": ("fleet.onhost",),
    "pydantic": ("fleet.inventory",),
    "ruamel": ("fleet.inventory",),
    "rich": (*FACES, "fleet.lab.cli"),
    "rich_click": ("fleet.cli", "fleet.declarations", "fleet.options", "fleet.lab.cli", "fleet.reference"),
    "elftools": ("fleet.release", "fleet.lab.releases.elf"),
    "sqlalchemy": ("fleet.journal",),
    "platformdirs": ("fleet.journal", "fleet.ssh"),
}
# Imports inside functions hide from the reader; these are there so that `fleet --help` is quick, and that only a journal
# on a server loads SQLAlchemy, and only an inventory that needs it pydantic.
LAZY_IMPORTS = (
    *("fleet.declarations", "fleet.options", "fleet.commands", "fleet.lab.cli", "fleet.environment"),
    *("fleet.journal.database", "fleet.journal.location", "fleet.inventory.variables"),
)
# The step script starts quickly: only a new bundle is unpacked, only a signal needs psutil, and a look needs little of
# what a request loads before it acts (fleet.onhost.visit.preloaded). Only a stage and an upgrade load preflight.
LAZY_ON_THE_HOST = (
    *("fleet.onhost.__main__", "fleet.onhost.bootstrap.start", "fleet.onhost.bootstrap.own_psutil"),
    *("fleet.onhost.system.machine", "fleet.onhost.system.files", "fleet.onhost.system.connections"),
    *(
        "fleet.onhost.visit.dispatch",
        "fleet.onhost.visit.answer",
        "fleet.onhost.visit.request",
        "fleet.onhost.visit.end",
        "fleet.onhost.visit.heartbeat",
        "fleet.onhost.report.report",
    ),
)


@cache
def tree() -> tuple[str, ...]:
    """Every file that is or would be committed, relative to the root."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return tuple(sorted(name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()))


def lines_that(pattern: re.Pattern[str], names: tuple[str, ...]) -> list[str]:
    """`file:line` of every match in text files."""
    found = []
    for name in names:
        try:
            text = (ROOT / name).read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{name}:{number}" for number, line in enumerate(text.splitlines(), 1) if pattern.search(line)]
    return found


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_below(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def module_id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# What may stand in the tree


def test_no_file_names_a_package_registry() -> None:
    assert lines_that(REGISTRIES, tree()) == []


def test_the_lock_has_a_hash_for_every_package_and_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    packages = re.split(r"\n(?! )", lock.strip())

    assert "://" not in lock
    assert [package.partition(" ")[0] for package in packages if "--hash=sha256:" not in package] == []


def test_no_lock_file_of_another_tool_is_in_the_tree() -> None:
    assert [name for name in tree() if LOCKS.search(name)] == []


def test_no_file_names_a_folder_of_one_person_s_machine() -> None:
    assert lines_that(HOMES, tree()) == []


def test_nothing_is_left_for_later() -> None:
    assert lines_that(LATER, tuple(name for name in tree() if name != "LICENSE")) == []


def test_the_licence_is_the_one_that_the_package_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert project["license"] == "Apache-2.0"
    assert "Apache License\n                           Version 2.0, January 2004" in (ROOT / "LICENSE").read_text()


# How long things get


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_every_module_says_what_it_is(path: Path) -> None:
    tree = ast.parse(path.read_text())

    assert ast.get_docstring(tree) or not tree.body, f"{module_id(path)} has no docstring"


def test_no_module_is_too_long_to_read() -> None:
    lengths = {module_id(path): len(path.read_text().splitlines()) for path in MODULES}

    assert {name: length for name, length in lengths.items() if length > LONGEST_MODULE} == {}


def test_no_function_is_too_long_to_read() -> None:
    assert [where for path in MODULES for where in long_functions(path)] == []


def long_functions(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > LONGEST_FUNCTION:
                yield f"{module_id(path)}:{node.lineno} {node.name}: {length} lines"


@pytest.mark.parametrize("word", ["utils", "util", "helpers", "helper", "common", "base", "manager", "misc"])
def test_no_module_has_a_name_that_says_nothing(word: str) -> None:
    assert [name for name in tree() if Path(name).stem == word and name.endswith(".py")] == []


def test_the_lab_and_its_tests_run_no_program_that_a_fresh_machine_lacks() -> None:
    places = tuple(
        name for name in tree() if name.startswith(("fleet/lab/", "tests/")) and name != "tests/test_house.py"
    )

    assert lines_that(NOT_EVERYWHERE, places) == []


# Rooms: what lies where (tests/support/rooms.py lists the exceptions)


def test_no_folder_has_too_many_modules() -> None:
    counts = Counter(module_id(path.parent) for path in MODULES if not path.stem.startswith("__"))

    assert {folder: count for folder, count in counts.items() if count > MOST_MODULES} == {}


def test_modules_of_one_name_are_about_one_thing() -> None:
    stems = Counter(path.stem for path in MODULES if not path.stem.startswith("__"))
    shared = {stem for stem, count in stems.items() if count > 1}

    assert shared - set(SHARED_STEMS) == set(), "name them apart, or say what they share"
    assert set(SHARED_STEMS) - shared == set(), "only one module has this name: take it from the list"


@pytest.mark.parametrize("path", PACKAGES, ids=module_id)
def test_every_folder_says_what_it_is_for_and_what_it_may_import(path: Path) -> None:
    first, _, rest = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")

    assert first.endswith("."), "the first line says what the folder is for"
    assert "import" in (first + rest).lower(), "a sentence says what the folder may import"


def test_no_folder_imports_more_than_its_docstring_says() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    floors = {each["containers"][0]: each["layers"] for each in contracts if each["type"] == "layers"}
    untold: dict[str, set[str]] = {}
    for container, layers in floors.items():
        rows = [[name.strip("() ") for name in layer.split(":")] for layer in layers]
        for package in (path for path in PACKAGES if module_name(path).rpartition(".")[0] == container):
            told = told_imports(package, rows)
            used = imported_siblings(package.parent, container) - {package.parent.name}
            untold |= {f"{module_name(package)} imports {name}": told for name in sorted(used - told)}

    assert len(floors) == 3
    assert untold == {}


def told_imports(package: Path, rows: list[list[str]]) -> set[str]:
    """The siblings that the folder's docstring lets it import. The lowest floor, the nouns, is open to all above it."""
    text = " ".join((ast.get_docstring(ast.parse(package.read_text())) or "").split())
    sentences = " ".join(each for each in re.split(r"(?<=\.) ", text) if "import" in each.lower())
    everything = {name for row in rows for name in row}
    if "everything on the host" in sentences or "May import everything;" in sentences or "every floor" in sentences:
        return everything - set(re.findall(r"but (?:not )?`(\w+)`", sentences))
    told = {name for name in re.findall(r"`(\w+)[`.]", sentences) if name in {*everything, "lab"}}
    lowest = max((number for number, row in enumerate(rows) if told & set(row)), default=len(rows))
    below = rows[lowest + 1 :] if "below" in sentences else rows[-1:]
    nouns = {name for row in rows[-2:] for name in row} if "nouns" in sentences else set()
    return told | {name for row in below for name in row} | nouns


def imported_siblings(folder: Path, container: str) -> set[str]:
    """The modules and packages of the container that a folder in it imports."""
    every = (node for path in folder.rglob("*.py") for node in ast.walk(ast.parse(path.read_text())))
    names = {
        f"{node.module}.{alias.name}" if node.module == container else str(node.module)
        for node in every
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return {name.removeprefix(container + ".").partition(".")[0] for name in names if is_below(name, container)}


def test_every_test_module_stands_beside_the_module_that_it_tests() -> None:
    strays = {module_id(path) for path in TESTS if not module_of(path).exists()}

    assert strays - set(WHOLE_SYSTEM) == set(), "name it as the module, or say what it is about as a whole"
    assert set(WHOLE_SYSTEM) - strays == set(), "it has its module now: take it from the list"


def module_of(path: Path) -> Path:
    """The module or package that tests/X/test_Y.py is for: fleet/X/Y.py or fleet/X/Y."""
    folder, name = FLEET / path.relative_to(ROOT / "tests").parent, path.stem.removeprefix("test_")
    return folder / name if (folder / name).is_dir() else folder / f"{name}.py"


def test_every_file_that_a_docstring_or_a_comment_names_exists() -> None:
    named = {
        (module_id(path), name)
        for path in sorted([*MODULES, *(ROOT / "tests").rglob("*.py")])
        if NAMED_FILE.search(path.read_text())
        for text in prose_of(path)
        for name in NAMED_FILE.findall(text)
    }

    assert len(named) > 10
    assert [(source, name) for source, name in sorted(named) if not (ROOT / name).exists()] == []


def prose_of(path: Path) -> Iterator[str]:
    """The comments of a module, and the strings that stand alone: docstrings."""
    with path.open("rb") as source:
        yield from (token.string for token in tokenize.tokenize(source.readline) if token.type == tokenize.COMMENT)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value


def test_every_long_test_module_exists() -> None:
    assert [name for name in LONG_MODULES if not (ROOT / name).exists()] == []


# Tests that can fail


def test_every_test_can_fail() -> None:
    assert [found for path in TESTS for found in weak_tests(module_id(path), path.read_text())] == []


def test_every_test_that_is_let_off_an_assert_exists() -> None:
    known = {
        f"{module_id(path)}::{node.name}"
        for path in TESTS
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }

    assert set(BY_NOT_RAISING) - known == set()


@pytest.mark.parametrize(
    "body",
    [
        "x()",
        "assert x in (True, False)",
        "assert x in {False, True, None}",
        "assert True",
        "assert 1 == 1",
        "assert module.LIMIT_S >= 4",
        "assert x.y == x.y",
        "assert (x, 'a message')",
        "assert x() or 1 == 1",
    ],
)
def test_a_test_that_can_not_fail_is_found(body: str) -> None:
    assert len(weak_tests("a.py", f"def test_a():\n    {body}\n")) == 1
    assert weak_tests("a.py", f"def a_helper():\n    {body}\n") == []


@pytest.mark.parametrize("body", ["assert x", "assert x() == x()", "assert x in (True, 1)", "wait_until(x, 'it')"])
def test_a_test_that_can_fail_is_not_found(body: str) -> None:
    assert weak_tests("a.py", f"def test_a():\n    {body}\n") == []


# Which door is whose (import-linter checks the floors; this adds what it can't see)


def test_every_library_is_imported_behind_its_own_door() -> None:
    strays = [
        f"{module_name(path)} imports {name}"
        for path in MODULES
        for name in imported(ast.walk(ast.parse(path.read_text())))
        if (door := DOORS.get(name.partition(".")[0])) is not None
        and not any(is_below(module_name(path), owner) for owner in door)
    ]

    assert strays == []


def test_the_lab_is_used_only_by_commands_and_tests() -> None:
    users = {
        module_name(path)
        for path in MODULES
        for name in imported(ast.walk(ast.parse(path.read_text())))
        if is_below(name, "fleet.lab") and not is_below(module_name(path), "fleet.lab")
    }

    assert {user for user in users if not user.startswith(("fleet.options", "fleet.commands"))} == set()


def test_imports_hide_in_functions_only_where_it_speeds_up_the_start() -> None:
    hidden = [
        f"{module_name(path)} imports {name} inside {function.name}"
        for path in MODULES
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for name in imported(ast.walk(function))
        if not any(is_below(module_name(path), owner) for owner in (*LAZY_IMPORTS, *LAZY_ON_THE_HOST))
    ]

    assert hidden == []


def imported(nodes: Iterator[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


# What the papers say is so


def test_the_commands_that_the_readme_gives_exist() -> None:
    targets = {
        name
        for line in (ROOT / "Makefile").read_text().splitlines()
        if re.match(r"[a-z][a-z -]*:", line)
        for name in line.partition(":")[0].split()
    }
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", (ROOT / "README.md").read_text(), re.M))

    assert named - targets == set()
    assert {"demo", "test"} <= named


def test_the_readme_knows_every_command_of_fleet_and_no_other() -> None:
    context = click.Context(commands)
    given = set(re.findall(r"(?:^|`)fleet ([a-z]+)", (ROOT / "README.md").read_text(), re.M))

    assert given == set(commands.list_commands(context)) - {"demo"}


def test_the_files_that_the_readme_points_to_exist() -> None:
    named = re.findall(r"\]\((?!https?:|#)([^)#]+)\)", (ROOT / "README.md").read_text())

    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_package_agrees_with_its_metadata() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert project["scripts"] == {"fleet": "fleet.cli:main"}
    assert fleet.__version__ == metadata.version(project["name"])


def test_the_bootstrap_installs_all_that_the_lab_needs() -> None:
    listed = re.search(r"LAB_PROGRAMS='(.*?)'", (ROOT / "dev").read_text(), re.S)

    assert listed is not None
    pairs = dict(pair.split(":") for pair in listed[1].split())
    assert pairs == {**PROGRAMS, "python3": "python3"}


def test_the_bootstrap_of_the_tests_installs_what_hosts_with_systemd_run() -> None:
    listed = re.search(r"TEST_PROGRAMS='(.*?)'", (ROOT / "dev").read_text(), re.S)

    assert listed is not None
    assert set(systemd.REQUIRED) <= set(listed[1].split())


# The skips


def test_every_accepted_skip_names_its_reason() -> None:
    allowed_skips(ALLOWED.read_text())


def test_a_skip_without_a_reason_is_no_accepted_skip() -> None:
    with pytest.raises(ValueError, match=r"allowed-skips.txt:1: a skip needs a reason"):
        allowed_skips("tests/test_a.py::test_b")


def test_a_skip_that_is_not_listed_is_objected_to() -> None:
    allowed = allowed_skips("# words\ntests/test_a.py::test_b  # needs a second machine\n")

    assert objection("tests/test_a.py::test_b", "Skipped: one machine", allowed) is None
    assert "tests/test_a.py::test_c was skipped" in str(objection("tests/test_a.py::test_c", "why not", allowed))
