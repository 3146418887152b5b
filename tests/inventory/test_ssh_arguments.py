"""Options of ssh in an inventory: split as Ansible splits them, handed on as they are, or refused by their name."""

import os
from pathlib import Path

import pytest

from fleet.errors import InventoryError
from fleet.host import Host, SshArguments
from fleet.inventory import load
from fleet.inventory.ssh_arguments import HONOURED, SYNTAX, UNUSED

NAMES = ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args")
LETTERS = set(SYNTAX) - {":"}


def only_host(folder: Path, **variables: str) -> Host:
    """The one host of an inventory with these variables, each a YAML scalar as it is written."""
    lines = "".join(f"        {name}: {value}\n" for name, value in variables.items())
    path = folder / "hosts.yml"
    path.write_text(f"all:\n  children:\n    web:\n      hosts:\n        web1.example.net:\n      vars:\n{lines}")
    (host,) = load([path]).hosts
    return host


def common(folder: Path, text: str) -> tuple[str, ...]:
    """ssh's arguments from this text of `ansible_ssh_common_args`."""
    host = only_host(folder, ansible_ssh_common_args="|-\n          " + text.replace("\n", "\n          "))
    assert host.ssh_arguments.first == ()
    return host.ssh_arguments.last


def rejection(folder: Path, **variables: str) -> str:
    with pytest.raises(InventoryError) as refused:
        only_host(folder, **variables)
    return str(refused.value)


def test_a_jump_in_the_common_arguments_is_taken(tmp_path: Path) -> None:
    host = only_host(tmp_path, ansible_ssh_common_args="'-o ProxyJump=ops@bastion.example.net'")

    assert host.ssh_arguments == SshArguments(last=("-oProxyJump=ops@bastion.example.net",))
    assert (host.address, host.ssh_config, host.labels) == ("web1.example.net", None, ())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("-oProxyJump=gate", ("-oProxyJump=gate",)),
        ("-J gate", ("-Jgate",)),
        ("-Jops@gate:2222,inner", ("-Jops@gate:2222,inner",)),
        ("-J ops@[2001:db8::1]:22", ("-Jops@[2001:db8::1]:22",)),
        ("-o 'ProxyCommand=ssh -W %h:%p gate'", ("-oProxyCommand=ssh -W %h:%p gate",)),
        ('-o ProxyCommand="ssh -W %h:%p -q gate"', ("-oProxyCommand=ssh -W %h:%p -q gate",)),
        ('-o "ProxyCommand nc -X 5 %h %p"', ("-oProxyCommand nc -X 5 %h %p",)),
        ("-i ~/.ssh/web -l deploy -p 2222", ("-i~/.ssh/web", "-ldeploy", "-p2222")),
        ("-Cqi '/my keys/web'", ("-i/my keys/web",)),
        ("-4 -6", ("-4", "-6")),
        ("-o StrictHostKeyChecking=no\n-o IdentitiesOnly=yes", ("-oStrictHostKeyChecking=no", "-oIdentitiesOnly=yes")),
        ("-o ProxyJump=a\\ b", ("-oProxyJump=a b",)),
        ("  ", ()),
    ],
)  # fmt: skip
def test_options_are_split_as_ansible_splits_them(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    assert common(tmp_path, text) == words


def test_the_options_keep_ansible_s_order(tmp_path: Path) -> None:
    """`ssh ARGS -o Port=… -o User=… COMMON_ARGS EXTRA_ARGS`: the first value of an option counts."""
    host = only_host(
        tmp_path,
        ansible_ssh_extra_args="-o User=third",
        ansible_ssh_common_args="-l second",
        ansible_ssh_args="-C -o ControlMaster=auto -o User=first",
    )

    assert host.ssh_arguments == SshArguments(
        ("-oControlMaster=auto", "-oUser=first"), ("-lsecond", "-oUser=third")
    )  # fmt: skip


@pytest.mark.parametrize("value", ["", "''", "null", "~"])
def test_an_empty_variable_gives_ssh_nothing(tmp_path: Path, value: str) -> None:
    assert only_host(tmp_path, ansible_ssh_common_args=value).ssh_arguments == SshArguments()


@pytest.mark.parametrize(
    ("variables", "config"),
    [
        ({"ansible_ssh_common_args": "-F /etc/one"}, "/etc/one"),
        ({"ansible_ssh_args": "-F /etc/one", "ansible_ssh_extra_args": "-F/etc/two"}, "/etc/two"),
        ({"ansible_ssh_common_args": "-F ops/ssh.cfg"}, os.path.abspath("ops/ssh.cfg")),
        ({"ansible_ssh_common_args": "-F none"}, "none"),
        ({"ansible_ssh_common_args": "-F /etc/one", "fleet_ssh_config": "/etc/own"}, "/etc/own"),
    ],
)
def test_the_file_of_f_is_the_ssh_config(tmp_path: Path, variables: dict[str, str], config: str) -> None:
    """ssh takes the last one, from the current directory; fleet's own variable goes before."""
    host = only_host(tmp_path, **variables)

    assert (host.ssh_config, host.ssh_arguments) == (config, SshArguments())


@pytest.mark.parametrize("letter", sorted(UNUSED))
def test_an_option_that_changes_no_way_is_passed_over(tmp_path: Path, letter: str) -> None:
    value = " x" if f"{letter}:" in SYNTAX else ""

    assert common(tmp_path, f"-{letter}{value} -J gate") == ("-Jgate",)


@pytest.mark.parametrize("letter", sorted(LETTERS - HONOURED - UNUSED))
@pytest.mark.parametrize("name", NAMES)
def test_any_other_option_is_refused_by_its_name(tmp_path: Path, name: str, letter: str) -> None:
    value = " x" if f"{letter}:" in SYNTAX else ""

    said = rejection(tmp_path, **{name: f"'-J gate -{letter}{value}'"})

    assert said.startswith(f"{tmp_path}/hosts.yml:7: {name} has the option -{letter}, which fleet does not support. ")
    assert said.endswith(".")


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("-W %h:%p", "Go through the bastion with `-J BASTION`."),
        ("-b 192.0.2.1", "`-o 'ProxyCommand=nc -s ADDRESS %h %p'`."),
        ("-L 8080:localhost:80", "write LocalForward in ~/.ssh/config, where fleet passes over it."),
        ("-I /usr/lib/token.so", "`ssh-add -s LIBRARY`."),
    ],
)
def test_a_refusal_names_a_way_that_works(tmp_path: Path, text: str, remedy: str) -> None:
    assert rejection(tmp_path, ansible_ssh_common_args=f"'{text}'").endswith(remedy)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("-o ProxyCommand=ssh -W %h:%p gate", "has the word 'gate', which belongs to no option. Quote a value with"),
        ("ProxyJump=gate", "has the word 'ProxyJump=gate', which belongs to no option."),
        ("-o 'ProxyCommand=ssh", "can't be split into words: No closing quotation."),
        ("-9", "is no list of ssh's options: option -9 not recognized."),
        ("--proxy gate", "is no list of ssh's options: option --proxy not recognized."),
        ("-J", "is no list of ssh's options: option -J requires argument."),
        ("-o 'ProxyCommand=nc %h %p\n\nrm'", "holds a control character."),
    ],
)
def test_a_text_that_is_no_list_of_options_is_refused(tmp_path: Path, text: str, words: str) -> None:
    said = rejection(tmp_path, ansible_ssh_extra_args="|-\n          " + text.replace("\n", "\n          "))

    assert f"ansible_ssh_extra_args {words}" in said


@pytest.mark.parametrize("value", ["[-J, gate]", "{o: ProxyJump}", "true"])
def test_a_value_that_is_no_text_is_refused(tmp_path: Path, value: str) -> None:
    assert "allowed: options of ssh, as text: -o, -J, -F" in rejection(tmp_path, ansible_ssh_args=value)


def test_one_refusal_is_enough_for_a_whole_group(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yml"
    path.write_text("all:\n  hosts: {web-[01:50]: }\n  vars: {ansible_ssh_common_args: -W x}\n")

    with pytest.raises(InventoryError) as refused:
        load([path])

    assert len(str(refused.value).splitlines()) == 1
