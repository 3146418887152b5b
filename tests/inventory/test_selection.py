"""What a selection leaves aside with a note, what it refuses, and that the printed `-l` leads on."""

import re
import shlex
from pathlib import Path

import pytest

from fleet.errors import InventoryError
from fleet.inventory import Inventory, load

MIXED = """\
all:
  hosts:
    localhost: {ansible_connection: local}
  children:
    web:
      hosts:
        web-[01:03]:
    windows:
      vars: {ansible_connection: winrm, ansible_port: 5986}
      hosts:
        win-[1:4]:
    switches:
      hosts:
        core: {ansible_connection: ansible.netcommon.network_cli}
    broken:
      hosts:
        odd: {ansible_port: ssh}
        web-03:
"""


def read(tmp_path: Path, text: str) -> Inventory:
    path = tmp_path / "hosts.yaml"
    path.write_text(text, "utf-8")
    return load([path])


def notes(tmp_path: Path, text: str, *patterns: str) -> tuple[str, ...]:
    return read(tmp_path, text).selection(patterns).notes


def limit_in(refused: str) -> list[str]:
    """The patterns of the `-l` that a refusal ends with, as a shell gives them to fleet."""
    line = re.search(r"`fleet upgrade RELEASE (-l [^`]*)`\.$", refused)
    assert line is not None, refused
    return [word for word in shlex.split(line[1]) if word != "-l"]


@pytest.mark.parametrize("patterns", [["web"], ["web-*"], ["web:!web-02"], ["all:!windows:!switches:!localhost:!odd"]])
def test_hosts_that_are_not_selected_are_a_note_and_no_reason_to_refuse(patterns: list[str], tmp_path: Path) -> None:
    hosts, said = read(tmp_path, MIXED).selection(patterns)

    assert {host.name[:3] for host in hosts} == {"web"}
    assert said == (
        "7 hosts outside --limit can't be handled by fleet: ansible_connection of localhost, win-1, win-2 and 3 more; "
        "ansible_port of odd.",
    )


@pytest.mark.parametrize(
    ("patterns", "way_out"),
    [
        ([], ["!windows,!localhost,!core,!odd"]),
        (["web:localhost"], ["web:localhost", "!localhost"]),
        (["web,switches"], ["web,switches", "!core"]),
        (["broken"], ["broken", "!odd"]),
        (["web:win-[1:2]"], ["web:win-[1:2]", "!windows"]),
        (["web-01:win-2:odd"], ["web-01:win-2:odd", "!win-2,!odd"]),
        (["~w.*"], ["~w.*", "!windows"]),
    ],
)
def test_a_refusal_ends_with_the_complete_limit_that_leads_on(
    patterns: list[str], way_out: list[str], tmp_path: Path
) -> None:
    inventory = read(tmp_path, MIXED)

    with pytest.raises(InventoryError) as refused:
        inventory.select(patterns)

    assert limit_in(str(refused.value)) == way_out
    kept = inventory.select(way_out)
    assert {host.name for host in kept} <= {"web-01", "web-02", "web-03"}
    assert kept


@pytest.mark.parametrize("patterns", [["windows"], ["localhost"], ["core:win-*"]])
def test_where_no_host_would_be_left_no_limit_is_advised(patterns: list[str], tmp_path: Path) -> None:
    with pytest.raises(InventoryError) as refused:
        read(tmp_path, MIXED).select(patterns)

    assert "-l" not in str(refused.value)
    assert "write `ansible_connection: ssh` in host_vars/" in str(refused.value)


def test_localhost_beside_the_servers_is_refused_only_if_it_is_selected(tmp_path: Path) -> None:
    inventory = read(
        tmp_path, "all: {hosts: {localhost: {ansible_connection: local}}, children: {web: {hosts: {web1: }}}}"
    )

    assert [host.name for host in inventory.select(["web"])] == ["web1"]
    with pytest.raises(InventoryError, match=r"ansible_connection is 'local'.* -l '!localhost'`\.$"):
        inventory.select()


def test_the_remedy_names_the_file_of_the_host_if_it_is_one(tmp_path: Path) -> None:
    one = read(tmp_path, "web: {hosts: {web-01: {ansible_connection: local}}}")
    two = read(tmp_path, "web: {vars: {ansible_connection: local}, hosts: {web-01: , web-02: }}")

    with pytest.raises(InventoryError, match=r"in host_vars/web-01\.yml\.$"):
        one.select()
    with pytest.raises(InventoryError, match=r"in host_vars/HOST\.yml\.$"):
        two.select()


def test_where_there_is_no_line_the_hosts_are_named(tmp_path: Path) -> None:
    path = tmp_path / "hosts.sh"
    path.write_text(
        """#!/bin/sh\necho '{"web": {"hosts": ["a", "b", "c", "d", "e"], "vars": {"ansible_port": "x"}}, "_meta": {}}'\n"""
    )
    path.chmod(0o755)

    with pytest.raises(InventoryError) as refused:
        load([path]).select(["!e"])

    assert str(refused.value).startswith(f"{path}: a, b, c and 1 more: ansible_port is 'x'; allowed: ")


def test_names_with_colons_are_left_out_too(tmp_path: Path) -> None:
    inventory = read(
        tmp_path, 'all: {hosts: {web-01: , "2001:db8::7": {ansible_port: 0}, "2001:db8::8": {ansible_port: 0}}}'
    )

    with pytest.raises(InventoryError) as refused:
        inventory.select()

    assert [host.name for host in inventory.select(limit_in(str(refused.value)))] == ["web-01"]


# Notes: once per kind


def test_variables_of_ansible_that_fleet_does_not_use_are_said_once(tmp_path: Path) -> None:
    said = notes(
        tmp_path,
        """
        all:
          vars: {ansible_pipelining: true, ansible_shell_type: sh}
          hosts: {web-01: {ansible_ssh_retries: 3}, web-02: {my_label: a}}
        """,
    )

    assert said == (
        "fleet does not use these variables of Ansible: ansible_pipelining (2 hosts), ansible_shell_type (2 hosts), "
        "ansible_ssh_retries (1 host).",
    )


def test_many_unused_variables_are_counted(tmp_path: Path) -> None:
    variables = ", ".join(f"ansible_my_{number}: a" for number in range(9))

    (said,) = notes(tmp_path, f"all: {{hosts: {{web-01: {{{variables}}}}}}}")

    assert said.endswith("ansible_my_3 (1 host) and 5 more.")


@pytest.mark.parametrize(
    ("value", "note"),
    [
        ('"/srv/{{ app_name }}"', "Jinja is not rendered: a (2 hosts). These labels show the template."),
        ('["x", {y: "{% if z %}"}]', "Jinja is not rendered: a (2 hosts). These labels show the template."),
        ("!vault abc", "Vault is not opened: a (2 hosts). fleet does not know the values of these labels."),
        (
            "{user: x, password: !vault abc}",
            "Vault is not opened: a (2 hosts). fleet does not know the values of these labels.",
        ),
    ],
)
def test_a_label_that_only_ansible_can_tell_is_said_once_and_has_no_value(
    value: str, note: str, tmp_path: Path
) -> None:
    hosts, said = read(tmp_path, f"all: {{vars: {{a: {value}, b: plain}}, hosts: {{web-01: , web-02: }}}}").selection()

    assert said == (note,)
    assert hosts[0].unrendered == ("a",)
    assert (hosts[0].label("a"), hosts[0].label("b")) == (None, "plain")
    assert "abc" not in repr(hosts)


@pytest.mark.parametrize("value", ['!unsafe "{{ a }}"', '"{ a }"', '"${a}"', "'{#a'"])
def test_a_text_that_is_no_template_is_a_label_like_any_other(value: str, tmp_path: Path) -> None:
    hosts, said = read(tmp_path, f"all: {{vars: {{a: {value}}}, hosts: {{web-01: }}}}").selection()

    assert said == ()
    assert hosts[0].unrendered == ()
    assert hosts[0].label("a") is not None


def test_a_template_in_a_variable_that_fleet_does_not_use_is_no_matter(tmp_path: Path) -> None:
    said = notes(
        tmp_path, 'all: {vars: {ansible_remote_tmp: "{{ x }}", ansible_scp_executable: !vault y}, hosts: {a: }}'
    )

    assert said == (
        "fleet does not use these variables of Ansible: ansible_remote_tmp (1 host), ansible_scp_executable (1 host).",
    )


@pytest.mark.parametrize(
    ("label", "meant"),
    [
        ("nginx_pidfile", "nginx_pid_file"),
        ("nginx_binaries", ""),
        ("nginx_confg", "nginx_config"),
        ("nginx_version", ""),
    ],
)
def test_a_label_one_letter_off_from_a_variable_of_fleet_is_a_warning_with_its_first_line(
    label: str, meant: str, tmp_path: Path
) -> None:
    hosts, said = read(
        tmp_path, f"all:\n  hosts:\n    web-01: {{{label}: /x}}\n    web-02: {{{label}: /x}}\n"
    ).selection()

    assert hosts[0].label(label) == "/x"
    expected = f"{tmp_path}/hosts.yaml:3: {label} is only a label; did you mean {meant}?"
    assert said == ((expected,) if meant else ())


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ansible_hosts", "ansible_host"),
        ("ansible_usre", "ansible_user"),
        ("ansible_becme", "ansible_become"),
        ("ansible_ssh_hots", "ansible_ssh_host"),
        ("ansible_distribution", ""),
        ("ansible_ssh_args", ""),
        ("ansible_ssh_pass", ""),
        ("ansible_su_user", ""),
    ],
)
def test_a_variable_of_ansible_one_letter_off_is_a_warning(name: str, meant: str, tmp_path: Path) -> None:
    said = read(tmp_path, f"all: {{vars: {{{name}: }}, hosts: {{web-01: }}}}").notes

    assert said == ((f"{tmp_path}/hosts.yaml:1: {name} is not used; did you mean {meant}?",) if meant else ())


@pytest.mark.parametrize(
    "variables",
    [
        "nginx_worker_processes: auto, nginx_vhosts: [], nginx_version: 1.26.3",
        "nginx_conf_template: nginx.conf.j2, nginx_remove_default_vhost: true, nginx_upstreams: [{name: a}]",
        "nginx_enable: true, nginx_setup: all, nginx_selinux: enforcing, nginx_main_template: {pid: /run/nginx.pid}",
        "nginx_install_from: source, nginx_configs: {proxy: [a]}, nginx_sites: {}",
    ],
)
def test_the_variables_of_nginx_roles_are_labels(variables: str, tmp_path: Path) -> None:
    hosts, said = read(tmp_path, f"all: {{vars: {{{variables}}}, hosts: {{web-01: }}}}").selection()

    assert len(hosts[0].labels) >= 3
    assert [note for note in said if "did you mean" not in note] == []
    assert hosts[0].layout.binary is None


def test_an_unknown_key_of_fleet_is_refused_whichever_host_it_is_for(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match="fleet_probe is unknown"):
        read(tmp_path, "all: {children: {web: {hosts: {a: }}, other: {vars: {fleet_probe: x}, hosts: {b: }}}}")


def test_a_thousand_hosts_say_each_thing_once(tmp_path: Path) -> None:
    hosts, said = read(
        tmp_path,
        """
        all:
          vars: {ansible_pipelining: true, a: "{{ b }}", c: !vault d, nginx_prefx: /x, ansible_become_pass: e}
          children:
            web: {hosts: {"web-[0001:1000]": }}
            windows: {vars: {ansible_connection: psrp}, hosts: {"win-[0001:1000]": }}
        """,
    ).selection(["web"])

    assert len(hosts) == 1000
    assert len(said) == 6
    assert max(map(len, said)) < 200
