"""`fleet inventory`: the selected hosts."""

import json

import pytest

from fleet import cli
from tests.support.pretend.visits import NEW
from tests.support.shell import QUICK, Shell


def test_inventory_lists_the_selected_hosts(shell: Shell) -> None:
    assert shell("inventory", "--limit", "web-02", "--json") == 0

    document = json.loads(shell.out)
    assert [host["name"] for host in document["hosts"]] == ["web-02"]
    assert document["hosts"][0]["labels"] == {"zone": "eu-1"}
    assert shell("inventory") == 0
    assert "192.0.2.4" in shell.out


WITH_LABELS = """\
all:
  vars: {ansible_pipelining: true, app_dir: "/srv/{{ app }}", nginx_pidfile: /x}
  hosts: {localhost: {ansible_connection: local}}
  children:
    web:
      hosts: {web-01: , web-02: }
"""


def test_what_fleet_leaves_aside_is_said_on_stderr_and_the_result_is_on_stdout(shell: Shell) -> None:
    shell.inventory.write_text(WITH_LABELS)

    assert shell("inventory", "-l", "web", "--json") == 0

    hosts = json.loads(shell.out)["hosts"]
    assert [host["unrendered"] for host in hosts] == [["app_dir"]] * 2
    assert hosts[0]["labels"] == {"app_dir": "/srv/{{ app }}", "nginx_pidfile": "/x"}
    assert [line.partition(": ")[0] for line in shell.err.splitlines()] == [
        f"{shell.inventory}:2",
        "fleet does not use these variables of Ansible",
        "Jinja is not rendered",
        "1 host outside --limit can't be handled by fleet",
    ]


@pytest.mark.parametrize("command", ["status", "rollback", "commit", "unlock"])
def test_every_command_says_it_once(command: str, shell: Shell) -> None:
    shell.inventory.write_text(WITH_LABELS)

    shell(command, "-l", "web")

    assert shell.err.count("Jinja is not rendered") == 1


def test_a_host_that_fleet_can_not_handle_is_refused_with_the_line_to_type(shell: Shell) -> None:
    shell.inventory.write_text(WITH_LABELS)

    assert shell("status") == 2
    assert shell.err.endswith(f"Or leave the host out: `fleet status -i {shell.inventory} -l '!localhost'`.\n")
    assert shell("status", "-l", "!localhost") == 0


@pytest.mark.parametrize(
    ("variable", "options"),
    [
        ("ansible_password", ("--ask-pass",)),
        ("ansible_become_password", ("--ask-become-pass",)),
        ("ansible_become_pass", ("--become-password-file", "/dev/null")),
    ],
)
def test_a_password_in_the_inventory_is_refused_until_it_is_given(
    variable: str, options: tuple[str, ...], shell: Shell
) -> None:
    shell.inventory.write_text(
        f"all: {{vars: {{ansible_become: true, {variable}: !vault abc}}, hosts: {{web-01: , web-02: }}}}"
    )

    assert shell("status") == 2
    assert f"`{options[0]}" in shell.err or f"`{options[0]} FILE`" in shell.err
    assert shell("status", *options) == 0
    assert "Passwords in the inventory are not used" in shell.err


def test_the_list_of_hosts_needs_no_password(shell: Shell) -> None:
    shell.inventory.write_text("all: {vars: {ansible_password: !vault abc}, hosts: {web-01: }}")

    assert shell("inventory") == 0
    assert "Passwords in the inventory are not used: ansible_password (1 host)." in shell.err


def test_a_missing_inventory_is_refused_with_the_remedy(shell: Shell) -> None:
    assert cli.run(("status",), shell.environment) == 2
    assert "-i" in shell.capsys.readouterr().err


def test_a_refused_host_is_left_out_by_the_line_that_is_printed(shell: Shell) -> None:
    shell.inventory.write_text(shell.inventory.read_text() + "    win-01: {ansible_connection: winrm}\n")

    for words in (("upgrade", NEW, "-y", *QUICK), ("upgrade", NEW, "-y", "-l", "web-01:win-01"), ("status",)):
        assert shell(*words) == 2
        (line,) = shell.lines
        assert line.endswith(" -l '!win-01'")
        assert shell.type(line) == 0
