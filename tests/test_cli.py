"""The command line as a whole: bad input, help, and what it loads."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import rich_click as click

from fleet.environment import rollout_id
from fleet.lab.cli import lab
from fleet.lab.releases.build import KINDS
from fleet.onhost.protocol import Ask
from fleet.options.lazy_group import COMMANDS, load
from tests.support.pretend.visits import AT, NEW
from tests.support.shell import QUICK, Shell

Words = tuple[str, ...]


def test_no_argument_is_read_as_markup(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "[" / "foo]" / "[bold]:smile:"
    path.parent.mkdir(parents=True)
    path.write_bytes(Path(sys.executable).resolve().read_bytes())
    path.chmod(0o755)

    assert shell("upgrade", str(path), "--dry-run") == 0
    assert str(path) in shell.out
    for words in (("upgrade", NEW, "--bake", "[/foo]"), ("upgrade", "[/foo]"), ("[/foo]",), ("status", "[/foo]")):
        assert shell(*words) == 2
        assert "[/foo]" in shell.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("upgrade", "/no/such/file", "-y"), "/no/such/file: no such file"),
        (("upgrade", NEW, "-y", "--bake", "soon"), "'soon' is not a valid duration"),
        (("upgrade", NEW, "-y", "--batches", "0"), "--batches '0' is not a valid list of sizes"),
        (("upgrade", NEW, "-y", "--max-failures", "many"), "--max-failures 'many'"),
        (("upgrade", NEW, "-y", "--allow", "everything"), "--allow everything"),
        (("upgrade", NEW, "-y", "--limit", "web-99"), "web-99"),
        (("upgrade", "abababab", "-y"), "No host knows a release abababab"),
        (("upgrade",), "Missing argument"),
        (("status", "--nonsense"), "--nonsense"),
        (("launch",), "launch"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_is_refused_and_changes_nothing(shell: Shell, words: Words, said: str) -> None:
    assert shell(*words) == 2

    assert said in shell.err
    assert {ask for _, ask in shell.fleet.calls} <= {Ask.LOOK}


def test_output_to_a_pipe_has_no_control_codes(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "-v")

    assert "\x1b" not in shell.out + shell.err


def every_option() -> list[tuple[str, click.Option]]:
    found = []
    for name, command in (*((name, load(name)) for name in COMMANDS), *lab.commands.items()):
        found += [(name, option) for option in command.params if isinstance(option, click.Option)]
    return found


def test_every_option_has_an_environment_variable_and_shows_its_default() -> None:
    for command, option in every_option():
        if option.name == "help":
            continue
        assert str(option.envvar).startswith("FLEET_"), f"{command} {option.name}"
        assert option.show_default, f"{command} {option.name}"
        assert option.help, f"{command} {option.name}"


def test_the_help_of_lab_release_lists_the_kinds() -> None:
    told = " ".join((lab.commands["release"].help or "").split())

    assert f": {', '.join(KINDS)}." in told


HEAVY = (
    *("fabric", "paramiko", "pydantic", "ruamel.yaml", "elftools", "sqlalchemy", "platformdirs", "rich", "email"),
    *("fleet.rollout", "fleet.engine", "fleet.events", "fleet.environment", "fleet.onhost.protocol"),
)


@pytest.mark.parametrize(
    ("words", "completing", "told"),
    [
        (["--help"], "", "Usage: fleet [OPTIONS]"),
        (["upgrade", "--help"], "", "Usage: fleet upgrade [OPTIONS]"),
        ([], "fleet roll", "plain,rollback"),
        ([], "fleet rollback --drain", "plain,--drain-timeout"),
    ],
)
def test_help_and_completion_load_nothing_that_they_do_not_show(words: list[str], completing: str, told: str) -> None:
    code = (
        "import atexit, sys; from fleet import cli\n"
        f"atexit.register(lambda: print([name for name in {HEAVY} if name in sys.modules]))\n"
        f"cli.run({words})"
    )
    shell = {"_FLEET_COMPLETE": "bash_complete", "COMP_WORDS": completing, "COMP_CWORD": str(completing.count(" "))}
    environ = os.environ | (shell if completing else {})

    ran = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)

    assert told in ran.stdout
    assert ran.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", ["status", "inventory", "history"])
def test_only_a_journal_on_a_server_needs_the_library_for_it(command: str, inventory: Path) -> None:
    code = (
        "import sys; from fleet import cli; from fleet.engine import Visits; from fleet.environment import Environment;"
        "from tests.support.pretend.visits import a_fleet; hosts = a_fleet(4);"
        "visits = lambda: Visits(hosts.visit, hosts.request_stop, hosts.cut_all);"
        "code = cli.run(sys.argv[1:], Environment(visits=visits)); print(code, 'sqlalchemy' in sys.modules)"
    )

    argv = [sys.executable, "-c", code, "-i", str(inventory), command]
    ran = subprocess.run(argv, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True)

    assert ran.stdout.splitlines()[-1] == "0 False"


def test_the_ids_of_rollouts_sort_by_time_and_differ() -> None:
    ids = {rollout_id(AT) for _ in range(50)}

    assert len(ids) > 45
    assert all(each.startswith("20261123-1000-") and len(each) == 18 for each in ids)
