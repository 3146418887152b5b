"""The pages for people: every file, name, heading and section that they or the code point to is there."""

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from fleet.cli import fleet
from fleet.lab.kinds.all_kinds import KINDS
from fleet.lab.releases import build
from fleet.onhost.procedure import MoveKind, Situation, Way, next_step
from fleet.onhost.protocol import MAY_DO, Ask, Phase, Rest, Step
from fleet.onhost.reasons.catalogue import REASONS
from fleet.options.lazy_group import COMMANDS, load
from fleet.ssh.reasons import WORDS
from tests.support.lab.matrix_table import INTRODUCTION
from tests.support.places import ROOT

PAGES = tuple(sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]))
SOURCES = tuple(sorted(path for folder in ("fleet", "tests") for path in (ROOT / folder).rglob("*.py")))

INLINE_LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")
LINK_DEFINITION = re.compile(r"^\[[^\]]+\]: (?!https?:)(\S+)$", re.M)
LINK_USE = re.compile(r"\]\[([^\]]+)\]|(?<![\]`])\[([a-z][a-z -]*)\](?![(:\[])")
HEADING = re.compile(r"^#+ (.+)$", re.M)
# `fleet/onhost/procedure.py`, `tests/support/`, `fleet/onhost/procedure.py:next_step`. `fleet/commands/NAME.py` is none.
PATH = re.compile(r"`((?:fleet|tests|docs)/[a-z0-9_./-]*)(?::([A-Za-z_][A-Za-z0-9_.]*))?`")
# `fleet rollback {rollout}` and `fleet lab up 6`; not `fleet COMMAND`, and no prose between two pairs of backticks.
COMMAND = re.compile(r"(?<![\w`])`(?:sudo )?fleet ([a-z]+(?: [^`]*)?)`")
CITED_PAGE = re.compile(r"[\w./-]*[\w-]\.md\b")
CITED_SECTIONS = re.compile(r"(docs/[\w-]+\.md),\s+sections?\s+(\d+(?:(?:,|\s+and)\s+\d+)*)")


def page_id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def text_of(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """The anchors of the page's headings, made as GitHub makes them."""
    return {
        re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")
        for heading in HEADING.findall(text_of(page))
    }


def is_missing(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    return not target.exists() or bool(anchor and anchor not in anchors(target))


def defines(path: Path, name: str) -> bool:
    """Whether a module defines the class, function, method (`Class.method`) or constant."""
    body: list[ast.stmt] = ast.parse(path.read_text()).body
    for part in name.split("."):
        found = next((node for node in body if part in _names(node)), None)
        if found is None:
            return False
        body = found.body if isinstance(found, ast.ClassDef) else []
    return True


def _names(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.name
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    yield from (target.id for target in targets if isinstance(target, ast.Name))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_link_leads_to_a_file_and_a_heading_that_exist(page: Path) -> None:
    text = text_of(page)
    links = [*INLINE_LINK.findall(text), *LINK_DEFINITION.findall(text)]

    assert [link for link in links if is_missing(page, link)] == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_reference_link_is_defined(page: Path) -> None:
    text = text_of(page)
    defined = set(re.findall(r"^\[([^\]]+)\]: ", text, re.M))
    used = {full or short for full, short in LINK_USE.findall(text)}

    assert used - defined == set()
    assert defined - used == set()


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_file_package_and_name_that_a_page_mentions_exists(page: Path) -> None:
    named = PATH.findall(text_of(page))

    assert [path for path, _ in named if not (ROOT / path).exists()] == []
    assert [f"{path}:{name}" for path, name in named if name and not defines(ROOT / path, name)] == []


def test_every_page_that_the_code_cites_is_in_the_repository() -> None:
    cited = {(page_id(path), name) for path in SOURCES for name in CITED_PAGE.findall(path.read_text())}
    pages = {name for page in PAGES for name in (page_id(page), page.name)}

    assert sorted((source, name) for source, name in cited if name not in pages) == []


def test_every_section_that_the_code_cites_is_a_heading_of_that_page() -> None:
    cited = [
        (page_id(path), page, section)
        for path in SOURCES
        for page, sections in CITED_SECTIONS.findall(path.read_text())
        for section in re.findall(r"\d+", sections)
    ]

    assert cited
    assert [
        (source, page, section)
        for source, page, section in cited
        if not re.search(rf"^## {section}\. ", (ROOT / page).read_text(), re.M)
    ] == []


def test_every_floor_that_import_linter_holds_is_in_the_architecture() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    floors = [contract for contract in contracts if contract["type"] == "layers"]
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = set(re.findall(r"\w+", " ".join(re.findall(r"^\| [a-z ]+ \| (.*?) \|", page, re.M))))

    assert len(floors) == 3
    for contract in floors:
        folder = contract["containers"][0].replace(".", "/") + "/"
        named = rows if folder == "fleet/" else set(re.findall(rf"`{folder}(\w+)", page))
        packages = {name.strip("() ") for layer in contract["layers"] for name in layer.split(":")}
        assert packages - named - {"__main__"} == set(), folder


def test_the_introduction_of_the_kill_matrix_is_the_one_that_the_next_run_writes() -> None:
    assert (ROOT / "docs" / "kill-matrix.md").read_text().startswith(INTRODUCTION)


def test_the_page_of_the_procedure_has_every_phase_and_every_step() -> None:
    page = (ROOT / "docs" / "procedure.md").read_text()

    assert re.findall(r"^\| `([A-Z]+)` \|", page, re.M) == [phase.value for phase in Phase]
    steps = {words.split()[0] for words in re.findall(r"^\| [a-z]* ?\| `[A-Z`, ]+ \| ([a-z ()]+) \|", page, re.M)}
    assert steps | {"stage"} == {step.value for step in Step}


def test_the_page_of_the_procedure_names_the_step_that_the_table_gives() -> None:
    page = (ROOT / "docs" / "procedure.md").read_text()
    rows = re.findall(r"^\| ([a-z]*) ?\| `([A-Z]+)` \| ([a-z]+)[a-z ()]* \|", page, re.M)
    way = ""
    for named, phase, step in rows:
        way = named or way
        # Seen from the release that a rollback aims at, a swapped host runs it and has the wrong file at the path.
        looks = (Phase.NEW, False) if step == "restore" else (Phase(phase), True)
        now = Situation(looks[0], Way(way), path_right=looks[1], litter=False)
        allowed = (*MAY_DO[Ask.UPGRADE], *MAY_DO[Ask.ROLLBACK])
        moves = {next_step(rest, now._replace(verified=known), allowed) for rest in Rest for known in (False, True)}
        assert Step(step) in {move.step for move in moves if move.kind is MoveKind.ACT}, (way, phase, step)
    assert len(rows) == 8


def test_every_module_that_a_docstring_or_a_comment_names_exists() -> None:
    names = [page_id(path) for path in SOURCES] + [page_id(path).removeprefix("tests/") for path in SOURCES]
    named = [(page_id(path), name) for path in SOURCES for name in re.findall(r"`([a-z_/]+\.py)`", path.read_text())]

    assert len(named) > 10
    assert [(path, name) for path, name in named if not any(f"/{each}".endswith(f"/{name}") for each in names)] == []


def test_every_reason_and_kind_that_the_facts_about_nginx_and_the_page_of_ssh_name_exists() -> None:
    facts, ssh = ((ROOT / "docs" / name).read_text() for name in ("nginx-facts.md", "ssh.md"))
    cited = {
        word for words in re.findall(r"\]:((?:,?\s+`[\w-]+`)+)", facts) for word in re.findall(r"`([^`]+)`", words)
    }
    refused = set(re.findall(r"refused: `(\w+)`|^\| `(\w+_\w+)` \|", ssh, re.M))

    assert len(cited) > 20
    assert cited - set(REASONS) - set(KINDS) - set(build.KINDS) == set()
    assert {word for pair in refused for word in pair if word} - set(WORDS) == set()


def unknown_words(line: str) -> list[str]:
    """The commands of fleet in backticks in this line that do not exist, or that have an option which does not exist."""
    return [given for given in COMMAND.findall(line) if not is_known(shlex.split(re.sub(r"\{[^}]*\}", "X", given)))]


def is_known(words: list[str]) -> bool:
    found: click.Command | None = fleet
    options: set[str] = set()
    while found is not None:
        context = click.Context(found)
        options |= {option for given in found.get_params(context) for option in (*given.opts, *given.secondary_opts)}
        if not isinstance(found, click.Group) or not words or words[0].startswith("-"):
            break
        name, *words = words
        found = load(name) if found is fleet and name in COMMANDS else found.get_command(context, name)
    own = words[: words.index("--")] if "--" in words else words
    return found is not None and all(word.partition("=")[0] in options for word in own if word.startswith("-"))


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ("Run `fleet upgrade --commit never RELEASE`.", False),
        ("Run `fleet lab exec lab-001 -- nginx -T`.", False),
        ("Run `fleet lab up 2 --with KIND`, or `fleet COMMAND --help`.", False),
        ("Run `fleet rolback {rollout}`.", True),
        ("Run `fleet rollback --commit`.", True),
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str, is_found: bool) -> None:
    assert bool(unknown_words(line)) is is_found


def test_every_command_of_fleet_that_a_page_or_a_message_names_exists() -> None:
    places = [path for path in (*PAGES, *SOURCES) if path != Path(__file__)]

    lines = [(page_id(path), line) for path in places for line in path.read_text().splitlines()]
    assert [(name, word) for name, line in lines for word in unknown_words(line)] == []
