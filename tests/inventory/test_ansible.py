"""Inventories that `ansible-inventory` reads for fleet: what it can't read is said, and what is in vault has a way."""

import os
import re
import shlex
from pathlib import Path

import pytest

from fleet.errors import InventoryError
from fleet.inventory import load
from tests.support.inventory.ansible import run

YAML = "web: {hosts: {web-01: {zone: a}}}\n"
INI = "[web]\nweb-01 zone=a\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ansible: None) -> Path:
    """The working directory, with Ansible in PATH and a vault password in the file `password`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "password").write_text("open\n", "utf-8")
    return tmp_path


def encrypted(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    run("ansible-vault", "encrypt", "--vault-password-file", "password", str(path))
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InventoryError) as refused:
        load([path])
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "text"), [("hosts.yml", YAML), ("hosts.yaml", YAML), ("hosts.ini", INI), ("hosts", INI)]
)
def test_an_inventory_in_vault_is_read_once_ansible_has_the_password(
    name: str, text: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encrypted(here / name, text)

    remedy = re.search(r"`export ([A-Z_]+)=FILE`", refusal(path))

    assert remedy is not None
    monkeypatch.setenv(remedy[1], "password")
    assert load([path]).select()[0].label("zone") == "a"


def test_an_inventory_in_vault_can_be_given_by_a_program_of_one_line(here: Path) -> None:
    encrypted(here / "hosts.vault.yml", YAML)
    program = here / "hosts.sh"
    program.write_text(
        "#!/bin/sh\nANSIBLE_VAULT_PASSWORD_FILE=password exec ansible-inventory -i hosts.vault.yml --list\n"
    )
    program.chmod(0o755)

    assert load([program]).select()[0].label("zone") == "a"


@pytest.mark.parametrize("where", ["group_vars/all.yml", "group_vars/web/vault.yml", "host_vars/web-01.yml"])
def test_a_file_in_vault_beside_an_ini_file_needs_the_password(
    where: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = here / "hosts.ini"
    path.write_text(INI, "utf-8")
    encrypted(here / where, "rack: 7\n")

    assert "`export ANSIBLE_VAULT_PASSWORD_FILE=FILE`" in refusal(path)
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", "password")
    assert load([path]).select()[0].label("rack") == "7"


@pytest.mark.parametrize("name", ["hosts.ini", "hosts.yml"])
def test_without_ansible_the_remedy_for_vault_is_where_ansible_is(
    name: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command of the remedy is run where Ansible is, and fleet reads the file that it writes."""
    path = encrypted(here / name, YAML if name.endswith("yml") else INI)
    with monkeypatch.context() as without:
        without.setenv("PATH", str(here / "empty"))
        text = refusal(path)

    command = re.search(r"`(ansible-inventory [^`]*)`", text)
    assert command is not None
    assert "encrypted by ansible-vault" in text
    run(*shlex.split(command[1].replace("--ask-vault-pass", "--vault-password-file password")))
    assert load([here / "flat.yaml"]).select()[0].label("zone") == "a"


@pytest.mark.parametrize(("name", "text"), [("hosts.ini", "[web\nweb-01\n"), ("hosts", "[web:children]\nnowhere\n")])
def test_a_file_that_ansible_can_not_read_is_refused_and_not_empty(name: str, text: str, here: Path) -> None:
    (here / name).write_text(text, "utf-8")

    text = refusal(here / name)

    assert text.startswith(f"{here / name}: ansible-inventory --list exited with 1: ")
    assert text.endswith(f" See the whole message: `ansible-inventory -i {here / name} --list`.")


def test_a_file_of_a_directory_that_ansible_can_not_read_is_named(here: Path) -> None:
    folder = here / "inventory"
    folder.mkdir()
    (folder / "hosts.ini").write_text(INI, "utf-8")
    (folder / "README").write_text("Two: lines\nof text: [\n", "utf-8")

    hosts, notes = load([folder]).selection()

    assert [host.name for host in hosts] == ["web-01"]
    assert notes == (f"Ansible can't read {folder}/README as an inventory. fleet knows no host that is only there.",)


def test_all_sources_are_merged_by_ansible_if_one_needs_it(here: Path) -> None:
    (here / "first.ini").write_text("[web]\nweb-01\n[all:vars]\nansible_user=first\n", "utf-8")
    (here / "second.yml").write_text("all: {vars: {ansible_user: second}}\n", "utf-8")

    hosts = load([here / "first.ini", here / "second.yml", Path("web-[02:03],gate:2222,")]).select()

    assert [(host.name, host.user, host.port) for host in hosts] == [
        ("web-02", "second", None),
        ("web-03", "second", None),
        ("gate", "second", 2222),
        ("web-01", "second", None),
    ]


def test_hosts_are_in_ansible_s_order(here: Path) -> None:
    (here / "hosts.ini").write_text("[zebra]\nz2\nz1\n[aardvark]\na1\n[all:children]\nzebra\naardvark\n", "utf-8")

    listed = run("ansible", "-i", "hosts.ini", "all", "--list-hosts").split()[2:]

    assert [host.name for host in load([here / "hosts.ini"]).select()] == listed == ["z2", "z1", "a1"]


def test_ansible_is_run_with_the_operator_s_environment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "hosts.ini").write_text("[web\n", "utf-8")
    (here / "more.yml").write_text(YAML, "utf-8")
    monkeypatch.setenv("ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED", "0")

    _, notes = load([here / "hosts.ini", here / "more.yml"]).selection()

    assert "hosts.ini as an inventory" in notes[0]
    assert os.environ["ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED"] == "0"
