"""`docs/cli.md` is what the code gives, and its examples have the keys that the commands print."""

import json
from dataclasses import replace
from typing import Any

import pytest

from fleet import errors
from fleet.commands import trust
from fleet.events import Event, EventType
from fleet.lab.cli import lab
from fleet.lab.commands import LabView
from fleet.onhost.protocol import Ask, Finding, Severity
from fleet.options.lazy_group import COMMANDS, load
from fleet.reference.cli_page import page
from fleet.reference.documents import DOCUMENTS
from fleet.reference.event_types import EVENTS
from fleet.reference.exit_codes import EXIT_CODES
from fleet.rollout import results
from fleet.ssh.link_errors import LinkError
from fleet.ssh.scan import ScannedAddress
from tests.support.places import ROOT
from tests.support.pretend.visits import NEW, REFUSED, WENT_BACK
from tests.support.shell import QUICK, Elsewhere, Shell

EXAMPLES = {each.schema: each.example for each in DOCUMENTS}


def test_the_page_agrees_with_the_code() -> None:
    assert (ROOT / "docs" / "cli.md").read_text("utf-8") == page(), "write it again: ./dev docs"


def test_the_page_has_every_command_with_every_option_and_its_environment_variable() -> None:
    text = page()
    for prefix, commands in (
        ("## fleet", {name: load(name) for name in COMMANDS if name != "lab"}),
        ("### fleet lab", lab.commands),
    ):
        for name, command in commands.items():
            assert f"\n{prefix} {name}\n" in text
            for option in command.params:
                if option.envvar:
                    assert f"`{option.envvar}`" in text, f"{name} {option.name}"


def test_no_cell_of_the_page_holds_an_entity_that_code_would_show() -> None:
    assert "&#124;" not in page()


def test_every_exit_code_is_explained() -> None:
    codes = {getattr(results, name) for name in ("OK", "REFUSED", "HALTED", "PERSON", "HELD_BY_OTHERS", "INTERRUPTED")}
    raised = {each.exit_code for each in vars(errors).values() if isinstance(each, type) and hasattr(each, "exit_code")}

    assert set(EXIT_CODES) == codes | raised


def test_every_event_type_has_an_example_of_its_type() -> None:
    assert list(EVENTS) == list(EventType)
    assert [each.event.type for each in EVENTS.values()] == list(EventType)


def shape(value: Any, other: Any) -> Any:
    """The keys of a document, level by level; where either side is null or empty, nothing is compared."""
    if not value or not other:
        return None
    if isinstance(value, dict):
        keys = {name: shape(value[name], other.get(name)) for name in value}
        return keys
    return [shape(value[0], other[0])] if isinstance(value, list) else None


def assert_same_shape(example: Any, printed: Any) -> None:
    assert shape(example, printed) == shape(printed, example)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ("fleet.status/1", ("status",)),
        ("fleet.inventory/1", ("inventory",)),
        ("fleet.locks/1", ("unlock",)),
        ("fleet.history/1", ("history",)),
        ("fleet.show/1", ("show",)),
    ],
)
def test_the_example_of_a_document_has_the_keys_that_the_command_prints(
    shell: Shell, schema: str, words: tuple[str, ...]
) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never")

    with Elsewhere(shell):
        assert shell(*words, "--json") == 0

    assert_same_shape(EXAMPLES[schema], json.loads(shell.out))


def test_the_example_of_check_has_the_keys_that_the_command_prints(shell: Shell) -> None:
    finding = Finding("daemon_off", Severity.REFUSAL, "nginx runs with `daemon off`.", "Start it with daemon on.")
    refused = replace(REFUSED, findings=(finding,))
    shell.fleet.outcomes["web-01", Ask.STAGE].append(refused)

    assert shell("check", NEW, "--json") == 2

    assert_same_shape(EXAMPLES["fleet.check/1"], json.loads(shell.out))


def test_the_example_of_trust_has_the_keys_that_the_command_prints() -> None:
    found = ScannedAddress(None, ("web-01",), failure=LinkError("timeout", "No answer within 10 s."))

    assert_same_shape(EXAMPLES["fleet.trust/1"], trust.document([found]))


def test_the_example_of_the_lab_has_the_fields_of_a_lab() -> None:
    labs = EXAMPLES["fleet.lab/1"]["labs"]

    assert set(labs[0]) == {"name", "subnet", "owner_pid", "inventory", "trouble", "hosts"}
    assert set(labs[0]) <= set(LabView.__dataclass_fields__)


COMMON = set(json.loads(Event(EVENTS[EventType.NOTE].event.at, "", EventType.NOTE).to_json()))


def test_the_examples_of_events_have_the_keys_of_a_real_run(shell: Shell) -> None:
    shell.fleet.outcomes["web-03", Ask.UPGRADE].append(WENT_BACK)
    printed = []
    for words in (("upgrade", "c" * 64, *QUICK), ("upgrade", NEW, *QUICK), ("commit",)):
        shell(*words, "-y", "--output", "jsonl")
        printed += [json.loads(line) for line in shell.out.splitlines()]

    seen = set()
    for event in printed:
        example = json.loads(EVENTS[EventType(event["type"])].event.to_json())
        assert set(example) - set(event) <= {"phase", "rehearsal"}, event["type"]
        assert set(example) >= COMMON
        seen.add(event["type"])
    assert seen == {each.value for each in EventType} - {"finding", "note"}
