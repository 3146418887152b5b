"""The complete lines that messages give to type next."""

import json
import shlex

import pytest

from fleet.options.lazy_group import load
from fleet.typed_command import CARRIED, UNTYPED, TypedCommand, TypedOption

INVENTORY = TypedOption("inventory", ("-i", "my hosts.yaml"))
LIMIT = TypedOption("limit", ("-l", "web:&eu"))
YES = TypedOption("yes", ("-y",))
BAKE = TypedOption("bake_s", ("--bake", "10s"))
UPGRADE = TypedCommand("upgrade", ("./nginx",), (INVENTORY, LIMIT, YES, BAKE), ("web:&eu",))


def test_a_line_is_quoted_for_the_shell() -> None:
    assert str(UPGRADE) == "fleet upgrade ./nginx -i 'my hosts.yaml' -l 'web:&eu' -y --bake 10s"
    assert UPGRADE.quoted == f"`{UPGRADE}`"


def test_an_exclusion_is_added_to_the_patterns_that_were_typed() -> None:
    words = shlex.split(str(UPGRADE.without(["web-03", "web-04"])))

    assert words[-4:] == ["-l", "web:&eu", "-l", "!web-03,!web-04"]
    assert words.count("-l") == 2


def test_an_exclusion_keeps_the_patterns_of_the_environment_which_a_typed_one_would_replace() -> None:
    typed = TypedCommand("upgrade", ("./nginx",), (), limits=("web",))

    assert str(typed.without(["web-03"])) == "fleet upgrade ./nginx -l web -l '!web-03'"


def test_another_command_keeps_only_what_it_takes_itself() -> None:
    assert str(UPGRADE.other("rollback", "R")) == "fleet rollback R -i 'my hosts.yaml' -y"
    assert str(UPGRADE.other("status")) == "fleet status -i 'my hosts.yaml'"
    assert str(UPGRADE.other("show", "R")) == "fleet show R"


def test_a_narrower_choice_of_a_rollout_s_hosts_stays_in_its_next_command() -> None:
    commit = TypedCommand("commit", ("R",), (INVENTORY, LIMIT), ("web:&eu",))

    assert str(commit.other("rollback", "R")) == "fleet rollback R -i 'my hosts.yaml' -l 'web:&eu'"


def test_what_was_checked_is_upgraded_with_the_same_hosts_and_the_same_allowances() -> None:
    allow, stage = TypedOption("allow", ("--allow", "quic")), TypedOption("stage", ("--no-stage",))
    check = TypedCommand("check", ("./nginx",), (INVENTORY, LIMIT, allow, stage), ("web:&eu",))

    assert str(check.after_check("upgrade")) == "fleet upgrade ./nginx -i 'my hosts.yaml' -l 'web:&eu' --allow quic"


def test_a_choice_of_hosts_is_not_about_another_rollout() -> None:
    commit = TypedCommand("commit", ("R",), (INVENTORY, LIMIT), ("web:&eu",))

    assert str(commit.other("rollback", "S", of_another=True)) == "fleet rollback S -i 'my hosts.yaml'"


def test_a_line_names_the_rollout_by_its_whole_id() -> None:
    assert str(TypedCommand("commit", ("2026",)).of("20261123-1000-test")) == "fleet commit 20261123-1000-test"
    assert str(UPGRADE.of("20261123-1000-test")) == str(UPGRADE)


def test_an_option_takes_the_place_of_the_one_that_was_typed() -> None:
    assert str(UPGRADE.having("bake_s", "--bake", "0s")).endswith(" -y --bake 0s")


def test_an_argument_that_looks_like_an_option_comes_last() -> None:
    assert str(TypedCommand("upgrade", ("-nginx",), (YES,))) == "fleet upgrade -y -- -nginx"


@pytest.mark.parametrize("typed", [UPGRADE, UNTYPED, TypedCommand("status", ())])
def test_a_command_is_read_back_from_the_journal(typed: TypedCommand) -> None:
    assert TypedCommand.from_plain(json.loads(json.dumps(typed.to_plain()))) == typed


def test_an_older_journal_names_no_command() -> None:
    assert TypedCommand.from_plain({}) == UNTYPED


@pytest.mark.parametrize("name", sorted(CARRIED))
def test_every_option_that_is_carried_to_a_command_is_one_of_its_own(name: str) -> None:
    assert CARRIED[name] <= {each.name for each in load(name).params}
