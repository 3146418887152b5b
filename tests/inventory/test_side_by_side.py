"""fleet reads an inventory as Ansible does: each case of `side-by-side/` beside `ansible-inventory --list`.

Compared are the hosts, the members of each group, and every variable of every host after all precedence, also of hosts that
fleet would refuse. What differs by intention is in `same`, and in `differences` of the case.
"""

import json
from contextlib import chdir
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from fleet.inventory import Inventory, load
from fleet.inventory.tree import VAULTED
from tests.support.inventory.ansible import listed, members

CASES = Path(__file__).parent / "side-by-side"


@dataclass(frozen=True)
class Case:
    """An inventory in a directory of its own, which is the working directory of both.

    `differences` are the variables whose values differ by intention: those of a file in vault, which fleet does not open.
    `limit` selects the hosts that fleet can handle.
    """

    name: str
    sources: tuple[str, ...] = ("hosts.yaml",)
    limit: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    password_file: str | None = None


EVERY_CASE = (
    Case("01-hosts-and-groups"),
    Case("02-ranges-and-ports"),
    Case("03-outer-inner-host"),
    Case("04-same-level-by-name"),
    Case("05-group-priority"),
    Case("06-one-group-in-two-parents"),
    Case("07-group-vars-and-host-vars"),
    Case("08-directories-of-variables"),
    Case("09-which-layer-wins"),
    Case("10-working-directory", ("inventories/production/hosts.yaml",)),
    Case("11-localhost-beside", ("hosts.yml",), limit=("web",)),
    Case("12-jinja", ("hosts.yml",)),
    Case("13-nginx-role-variables", ("hosts.yml",)),
    Case("14-vault-and-unsafe", ("hosts.yml",)),
    Case("15-ini", ("hosts.ini",)),
    Case("16-ini-with-vault-and-jinja", ("hosts",)),
    Case("17-a-directory", ("inventory",)),
    Case("18-a-program", ("hosts.sh",)),
    Case("19-a-program-without-meta", ("hosts.sh",)),
    Case("20-two-files", ("first/hosts.yml", "second/hosts.yml")),
    Case("21-yaml-and-ini", ("first.ini", "second.yml", "web3,web4:2222,")),
    Case("22-windows-and-network-gear", ("hosts.yml",), limit=("web",)),
    Case("23-kinds-of-values", ("hosts.yml",)),
    Case("24-constructed", ("1-hosts.yml", "2-constructed.yml")),
    Case(
        "25-a-file-in-vault",
        ("hosts.yml",),
        differences=("secret", "zone"),
        password_file="password",
    ),
)


@cache
def inventory_of(case: Case) -> Inventory:
    """The case as fleet reads it."""
    with chdir(CASES / case.name):
        return load([Path(source) for source in case.sources])


def same(text: str, value: object) -> bool:
    """Whether fleet's text of a variable is Ansible's value.

    By intention fleet keeps what is written: `no`, `1.10` and `007` where Ansible has `false`, `1.1` and `7`; an empty text
    for nothing; and the word `!vault` for a secret.
    """
    return alike(text, value) or (not isinstance(value, str) and alike(as_json(text), value))


def alike(mine: object, value: object) -> bool:
    if isinstance(value, dict) and "__ansible_vault" in value:
        return mine == VAULTED
    if isinstance(value, dict) and "__ansible_unsafe" in value:
        return bool(mine == value["__ansible_unsafe"])
    if isinstance(value, dict):
        return (
            isinstance(mine, dict)
            and mine.keys() == value.keys()
            and all(alike(mine[key], value[key]) for key in value)
        )
    if isinstance(value, list):
        return isinstance(mine, list) and len(mine) == len(value) and all(map(alike, mine, value))
    if isinstance(value, str):
        return mine in (value, json.dumps(value)) or str(as_yaml(mine)) == value
    return bool(mine == value or as_yaml(mine) == value or (value is None and mine == ""))


def as_json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def as_yaml(text: object) -> object:
    """The text as a scalar of YAML 1.1, which Ansible reads."""
    return YAML(typ="safe", pure=True).load(f"%YAML 1.1\n---\n{text}\n") if isinstance(text, str) else text


def unlike(inventory: Inventory, hostvars: dict[str, dict[str, Any]]) -> list[str]:
    """Every variable of a host whose value differs, or that only one of the two knows."""
    found = []
    for name, source in inventory.sources.items():
        mine, theirs = source.variables, hostvars.get(name, {})
        found += [f"{name}: {key}" for key in mine.keys() ^ theirs.keys()]
        found += [f"{name}: {key}" for key in mine.keys() & theirs.keys() if not same(mine[key].text, theirs[key])]
    return found


@pytest.mark.parametrize("case", EVERY_CASE, ids=lambda case: case.name)
def test_fleet_and_ansible_read_the_same(case: Case, monkeypatch: pytest.MonkeyPatch, ansible: None) -> None:
    monkeypatch.chdir(CASES / case.name)
    inventory = inventory_of(case)
    if case.password_file:
        monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", case.password_file)
    theirs = listed(case.sources)

    groups = {name: set(names) for name, names in inventory.groups.items() if names}
    assert groups == {name: names for name, names in members(theirs).items() if names}
    assert {line.partition(": ")[2] for line in unlike(inventory, theirs["_meta"]["hostvars"])} == set(case.differences)


@pytest.mark.parametrize("case", EVERY_CASE, ids=lambda case: case.name)
def test_every_variable_of_a_host_is_read_or_shown_or_noted(case: Case, ansible: None) -> None:
    inventory = inventory_of(case)

    hosts, notes = inventory.selection(case.limit)

    read = ("ansible_host", "ansible_port", "ansible_user", "ansible_become", "nginx_pid_file")
    for host in hosts:
        variables = inventory.sources[host.name].variables
        rest = [name for name in variables if name not in dict(host.labels) and name not in read]
        assert [name for name in rest if not any(name in note for note in notes)] == []
        assert host.address == (variables["ansible_host"].text if "ansible_host" in variables else host.name)
        assert host.user == (variables["ansible_user"].text if "ansible_user" in variables else None)
        assert str(host.port or "") == (variables["ansible_port"].text if "ansible_port" in variables else "")


def test_there_is_a_case_for_every_directory() -> None:
    assert sorted(path.name for path in CASES.iterdir()) == [case.name for case in EVERY_CASE]
    assert len(EVERY_CASE) >= 20
