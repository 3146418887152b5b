"""`group_vars` and `host_vars`: what is read, what is refused, what is left out. `side-by-side/` compares with Ansible."""

from pathlib import Path

import pytest

from fleet.errors import InventoryError
from fleet.host import SshArguments
from fleet.inventory import load

VAULT = "$ANSIBLE_VAULT;1.1;AES256\n36313632\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory that is the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def an_inventory(here: Path) -> Path:
    return written(here / "inventory" / "hosts.yaml", "web: {hosts: {web-01: {zone: a}, web-02: }}")


def test_a_file_of_variables_has_lines(here: Path) -> None:
    inventory = load([an_inventory(here)])
    written(here / "inventory/group_vars/web.yml", "zone: b\nansible_port: ssh\n")

    assert inventory.select()[0].port is None
    with pytest.raises(InventoryError, match=r"inventory/group_vars/web\.yml:2: ansible_port is 'ssh'"):
        load([an_inventory(here)]).select()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("group_vars/web.yml", "- a\n", "web.yml:1: a file of variables must be a map of names and values"),
        ("host_vars/web-01.json", "[]", "web-01.json: a file of variables must be an object"),
        ("host_vars/web-01.json", "{", "web-01.json: not valid JSON"),
        ("group_vars/all/x.yml", "a: [", "x.yml:1: not valid YAML"),
        ("group_vars/all/x.yml", "a: 1\na: 2\n", "x.yml:2: a is already defined in line 1"),
        ("group_vars/web.yml", "fleet_probe: x\n", "web.yml:1: fleet_probe is unknown"),
    ],
)
def test_a_file_that_can_not_be_read_is_refused(name: str, text: str, message: str, here: Path) -> None:
    written(here / "inventory" / name, text)

    with pytest.raises(InventoryError, match=message):
        load([an_inventory(here)])


@pytest.mark.parametrize(
    "name", ["group_vars/web.yml", "group_vars/all/vault.yml", "host_vars/web-01", "host_vars/web-01.yml"]
)
def test_a_file_in_vault_is_left_out_and_named_once(name: str, here: Path) -> None:
    written(here / "inventory" / name, VAULT)

    hosts, notes = load([an_inventory(here)]).selection()

    assert [host.labels for host in hosts] == [(("zone", "a"),), ()]
    assert notes == (f"Files in vault are not read: inventory/{name}. fleet does not know the variables in them.",)


def test_the_files_beside_one_in_vault_are_read(here: Path) -> None:
    written(here / "inventory/group_vars/web/vault.yml", VAULT)
    written(here / "inventory/group_vars/web/vars.yml", 'ansible_user: deploy\nsecret: "{{ vault_secret }}"\n')

    hosts, notes = load([an_inventory(here)]).selection()

    assert hosts[0].user == "deploy"
    assert len(notes) == 2


def test_what_the_working_directory_has_is_read_once_where_the_inventory_lies_in_it(here: Path) -> None:
    path = written(here / "hosts.yaml", "web: {hosts: {web-01: }}")
    written(here / "group_vars/web.yml", "zone: a\n")
    written(here / "group_vars/all.yml", VAULT)

    inventory = load([path])

    assert inventory.select()[0].label("zone") == "a"
    assert [note.count("group_vars/all.yml") for note in inventory.notes] == [1]


def test_a_working_directory_that_everybody_may_write_to_is_not_read(here: Path) -> None:
    """A variable can name a command that runs on the operator's machine."""
    inventory = an_inventory(here)
    written(here / "group_vars/all.yml", "ansible_ssh_common_args: -o ProxyCommand=evil\n")
    here.chmod(0o1777)

    hosts, notes = load([inventory]).selection()

    assert hosts[0].ssh_arguments == SshArguments()
    assert notes == (f"Variables in {here} are not read: everybody may write to that directory.",)
    here.chmod(0o755)
    assert load([inventory]).select()[0].ssh_arguments.last == ("-oProxyCommand=evil",)


def test_a_working_directory_that_was_removed_is_no_error(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inventory = an_inventory(here)
    written(here / "inventory/group_vars/web.yml", VAULT)
    (here / "gone").mkdir()
    monkeypatch.chdir(here / "gone")
    (here / "gone").rmdir()

    _, notes = load([inventory]).selection()
    monkeypatch.chdir(here)

    assert notes == (
        f"Files in vault are not read: {here}/inventory/group_vars/web.yml. fleet does not know the variables in them.",
    )


def test_paths_in_a_file_of_variables_are_relative_to_the_inventory(here: Path) -> None:
    written(here / "inventory/group_vars/web/ssh.yml", "fleet_known_hosts: known_hosts\n")
    written(here / "inventory/host_vars/web-02.yml", "fleet_ssh_config: ../ssh_config\n")

    first, second = load([an_inventory(here)]).select()

    assert first.known_hosts == str(here / "inventory" / "known_hosts")
    assert second.ssh_config == str(here / "ssh_config")


def test_the_folders_beside_a_program_are_read(here: Path) -> None:
    program = written(
        here / "inventory" / "hosts.sh",
        """#!/bin/sh\necho '{"web": {"hosts": ["w1"], "vars": {"a": 1}}, "_meta": {}}'\n""",
    )
    program.chmod(0o755)
    written(here / "inventory/group_vars/web.yml", "a: 2\n")

    assert load([program]).select()[0].label("a") == "2"
