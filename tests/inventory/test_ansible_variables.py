"""Every variable that Ansible documents has an answer, and every refusal a remedy that works."""

import json
import re
from pathlib import Path

import pytest

from fleet.errors import InventoryError
from fleet.inventory import Inventory, Password, load
from fleet.inventory.ansible_variables import ALIASES, CONFLICTS, IGNORED, IGNORED_PREFIXES, Conflict, When
from fleet.inventory.host_values import KNOWN
from tests.support.inventory.ansible import run
from tests.support.places import ROOT

PLUGINS = {
    "connection": ("ssh", "paramiko_ssh", "local", "winrm", "psrp"),
    "become": ("sudo", "su", "runas"),
    "shell": ("sh", "cmd", "powershell"),
}
CONFLICTING = {name: conflict for conflict in CONFLICTS for name in conflict.names}
AN_EXAMPLE = {
    "ansible_ssh_executable": "/opt/jump/tsh",
    "ansible_become_exe": "sudo su -",
    "ansible_sudo_exe": "/opt/pam/dzdo",
    "ansible_doas_exe": "super",
    "ansible_become_flags": "-H -u www-data",
    "ansible_sudo_flags": "-r sysadm_r",
    "ansible_doas_flags": "-C /etc/other.conf",
    "ansible_shell_type": "powershell",
}
HARMLESS = {
    "ansible_ssh_executable": ("ssh", "/usr/bin/ssh", "/opt/homebrew/bin/ssh", ""),
    "ansible_become_exe": ("sudo", "/usr/bin/sudo", "doas", "/usr/local/bin/doas"),
    "ansible_become_flags": ("-H -S -n", "-HSn", "-E", "-i", ""),
    "ansible_shell_type": ("sh", "csh", "fish", "ansible.builtin.sh"),
}


def an_inventory(folder: Path, **variables: str) -> Path:
    """An inventory in that folder with one host `web-01` that has these variables, and one without any."""
    path = folder / "hosts.yaml"
    hosts = {"web-01": variables, "web-02": {}}
    path.write_text(json.dumps({"web": {"hosts": hosts}}), "utf-8")
    return path


def that_matters(name: str, conflict: Conflict) -> dict[str, str]:
    """Variables of a host to which the conflict matters."""
    value = {name: AN_EXAMPLE.get(name, "a value")}
    if conflict.when is When.BECOME:
        return {"ansible_become": "true", "ansible_user": "deploy", **value}
    return {"ansible_connection": "paramiko", **value} if conflict.when is When.PARAMIKO else value


def refusal(inventory: Inventory) -> str:
    with pytest.raises(InventoryError) as refused:
        inventory.select()
    return str(refused.value)


def test_every_documented_variable_of_ansible_s_plugins_has_an_answer(ansible: None) -> None:
    documented = set()
    for kind, plugins in PLUGINS.items():
        pages = json.loads(run("ansible-doc", "-t", kind, "-j", *plugins))
        options = [option for page in pages.values() for option in page["doc"]["options"].values()]
        documented |= {variable["name"] for option in options for variable in option.get("vars", ())}
    documented = {name for name in documented if re.fullmatch(r"ansible_\w+", name)}

    answered = {*KNOWN, *ALIASES, *CONFLICTING, *IGNORED}
    assert len(documented) > 100
    assert sorted(name for name in documented - answered if not name.startswith(IGNORED_PREFIXES)) == []


def test_no_variable_has_two_answers() -> None:
    answers = [*KNOWN, *ALIASES, *CONFLICTING, *IGNORED]

    assert sorted(name for name in answers if answers.count(name) > 1) == []
    assert {ALIASES[name] for name in ALIASES} <= set(KNOWN)


def test_the_page_names_every_variable_that_is_read_or_refused() -> None:
    page = (ROOT / "docs" / "inventory.md").read_text("utf-8")

    assert [name for name in (*KNOWN, *ALIASES, *CONFLICTING) if f"`{name}`" not in page] == []


@pytest.mark.parametrize("name", CONFLICTING)
def test_a_variable_that_would_change_the_way_to_a_host_is_refused_and_the_remedy_works(
    name: str, tmp_path: Path
) -> None:
    conflict = CONFLICTING[name]
    path = an_inventory(tmp_path, **that_matters(name, conflict))

    text = refusal(load([path]))

    assert text.startswith(f"{path}:1: {name} ")
    remedy = re.search(r"`([^`]+)`[^`]*in host_vars/web-01\.yml", text)
    if conflict.password is None or remedy:
        assert remedy is not None, "the remedy is a line to write"
        (tmp_path / "host_vars").mkdir()
        (tmp_path / "host_vars" / "web-01.yml").write_text(remedy[1] + "\n", "utf-8")
        assert len(load([path]).select()) == 2
    assert " -l '!web-01'`" in text
    assert [host.name for host in load([path]).select(["!web-01"])] == ["web-02"]


@pytest.mark.parametrize(
    ("name", "password"), [(name, one.password) for name, one in CONFLICTING.items() if one.password]
)
def test_a_password_is_no_conflict_where_the_operator_gives_it(name: str, password: Password, tmp_path: Path) -> None:
    inventory = load([an_inventory(tmp_path, **that_matters(name, CONFLICTING[name]))])

    hosts, notes = inventory.selection(passwords=frozenset((password,)))

    assert len(hosts) == 2
    assert [note for note in notes if f"Passwords in the inventory are not used: {name} (1 host)." in note] == [*notes]
    assert "a value" not in repr(hosts)


@pytest.mark.parametrize(
    "variables",
    [
        {"ansible_become_password": "x"},
        {"ansible_become_password": "x", "ansible_become": "false"},
        {"ansible_become_password": "x", "ansible_become": "true", "ansible_user": "root"},
        {"ansible_become_flags": "-u www-data"},
        {"ansible_become_user": "postgres"},
        {"ansible_become_method": "su", "ansible_become": "no"},
        {"ansible_paramiko_proxy_command": "nc %h %p"},
        {"ansible_winrm_transport": "kerberos"},
    ],
    ids=lambda variables: " ".join(f"{name}={value}" for name, value in variables.items()),
)
def test_what_a_host_does_not_need_is_no_reason_to_refuse_it(variables: dict[str, str], tmp_path: Path) -> None:
    hosts, notes = load([an_inventory(tmp_path, **variables)]).selection()

    assert len(hosts) == 2
    assert next(iter(variables)) in "".join(notes)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in HARMLESS.items() for value in values])
def test_a_value_that_asks_for_what_fleet_does_anyway_is_no_conflict(name: str, value: str, tmp_path: Path) -> None:
    path = an_inventory(tmp_path, **{"ansible_become": "true", name: value})

    assert len(load([path]).select()) == 2


@pytest.mark.parametrize("text", ["{{ lookup('env', 'X') }}", "{% if a %}x{% endif %}"])
@pytest.mark.parametrize("name", [name for name in CONFLICTING if not CONFLICTING[name].password])
def test_a_template_in_such_a_variable_may_be_anything_and_is_refused(name: str, text: str, tmp_path: Path) -> None:
    variables = {**that_matters(name, CONFLICTING[name]), name: text}

    assert f"{name} " in refusal(load([an_inventory(tmp_path, **variables)]))


@pytest.mark.parametrize(
    ("name", "value", "plain"),
    [
        ("ansible_host", "{{ inventory_hostname }}.example.net", "web-01.example.net"),
        ("ansible_ssh_host", "{{ address }}", "192.0.2.1"),
        ("ansible_port", "{{ port | default(22) }}", "22"),
        ("ansible_user", "{{ lookup('env', 'USER') }}", "deploy"),
        ("ansible_become", "{{ use_sudo }}", "true"),
        ("ansible_connection", "{{ how }}", "ssh"),
        ("ansible_ssh_private_key_file", "{{ playbook_dir }}/key", "/keys/deploy"),
        ("ansible_python_interpreter", "{{ ansible_playbook_python }}", "/usr/bin/python3"),
        ("nginx_pid_file", "{{ run }}/nginx.pid", "/run/nginx.pid"),
        ("fleet_state_dir", "{% if a %}/x{% endif %}", "/var/lib/fleet"),
    ],
)
def test_a_template_in_what_fleet_needs_is_refused_and_the_value_itself_is_read(
    name: str, value: str, plain: str, tmp_path: Path
) -> None:
    path = an_inventory(tmp_path, **{name: value})

    text = refusal(load([path]))

    assert f"{name} is a Jinja template, which fleet does not render." in text
    assert "host_vars/web-01.yml" in text
    (tmp_path / "host_vars").mkdir()
    (tmp_path / "host_vars" / "web-01.yml").write_text(f"{name}: {plain}\n", "utf-8")
    assert len(load([path]).select()) == 2


@pytest.mark.parametrize(
    ("name", "plain"),
    [("ansible_host", "192.0.2.1"), ("ansible_ssh_user", "deploy"), ("nginx_binary", "/usr/sbin/nginx")],
)
def test_vault_in_what_fleet_needs_is_refused_and_the_value_itself_is_read(
    name: str, plain: str, tmp_path: Path
) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_text(f"web:\n  hosts:\n    web-01: {{{name}: !vault abc}}\n    web-02:\n", "utf-8")

    assert f"{path}:3: {name} is in vault, which fleet does not open." in refusal(load([path]))
    assert len(load([path]).select(["!web-01"])) == 1
    (tmp_path / "host_vars").mkdir()
    (tmp_path / "host_vars" / "web-01.yml").write_text(f"{name}: {plain}\n", "utf-8")
    assert len(load([path]).select()) == 2


def test_vault_in_the_become_password_is_refused_unless_the_password_is_given(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_text(
        "web: {vars: {ansible_become: true, ansible_become_password: !vault abc}, hosts: {web-01: }}", "utf-8"
    )
    inventory = load([path])

    assert "Give it with `--ask-become-pass` or `--become-password-file FILE`." in refusal(inventory)
    assert len(inventory.selection(passwords=frozenset((Password.BECOME,))).hosts) == 1


@pytest.mark.parametrize(
    "connection", ["local", "winrm", "psrp", "network_cli", "community.docker.docker", "libssh", "chroot"]
)
def test_a_connection_that_fleet_does_not_have_is_refused_alone_and_the_remedies_work(
    connection: str, tmp_path: Path
) -> None:
    path = an_inventory(
        tmp_path, ansible_connection=connection, ansible_user="{{ user }}", ansible_password="x", ansible_port="none"
    )

    text = refusal(load([path]))

    assert len(text.splitlines()) == 1
    assert f"ansible_connection is '{connection}'; allowed: ssh" in text
    assert " -l '!web-01'`" in text
    assert [host.name for host in load([path]).select(["!web-01"])] == ["web-02"]
    (tmp_path / "host_vars").mkdir()
    plain = "ansible_connection: ssh\nansible_user: deploy\nansible_password:\nansible_port: 22\n"
    (tmp_path / "host_vars" / "web-01.yml").write_text(plain, "utf-8")
    assert len(load([path]).select()) == 2


@pytest.mark.parametrize(
    "connection", ["ssh", "smart", "paramiko", "paramiko_ssh", "ansible.builtin.ssh", "ansible.legacy.ssh"]
)
def test_every_name_of_the_ssh_connection_is_understood(connection: str, tmp_path: Path) -> None:
    path = an_inventory(
        tmp_path, ansible_connection=connection, ansible_become="yes", ansible_become_method="ansible.builtin.sudo"
    )

    assert load([path]).select(["web-01"])[0].become_method == "sudo"


def test_older_names_of_the_become_user_are_understood(tmp_path: Path) -> None:
    path = an_inventory(tmp_path, ansible_become="true", ansible_sudo_user="postgres")

    assert "ansible_sudo_user is 'postgres'; allowed: root" in refusal(load([path]))


def test_an_older_name_without_a_value_does_not_hide_the_current_one(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_text("web: {hosts: {web-01: {ansible_host: 192.0.2.1, ansible_ssh_host: }}}", "utf-8")

    assert load([path]).select()[0].address == "192.0.2.1"


def test_two_names_that_differ_are_refused_and_the_remedy_works(tmp_path: Path) -> None:
    path = an_inventory(tmp_path, ansible_host="192.0.2.1", ansible_ssh_host="192.0.2.2")

    assert "write `ansible_ssh_host:` without a value in host_vars/web-01.yml" in refusal(load([path]))
    (tmp_path / "host_vars").mkdir()
    (tmp_path / "host_vars" / "web-01.yml").write_text("ansible_ssh_host:\n", "utf-8")
    assert load([path]).select()[0].address == "192.0.2.1"
