"""fleet on real hosts, with an inventory as people have it: other machines beside, other roles' variables, vault, folders."""

import json
import re
import shlex
from pathlib import Path

import pytest

from fleet.lab.lab import Lab
from fleet.lab.releases.build import make_release
from tests.lab.conftest import MakeLab
from tests.support.lab.operator import fleet, look

ALL_SORTS = """\
all:
  vars:
    ansible_pipelining: true
    app_dir: "/srv/{{ app_name }}"
    api_key: !vault abc
    nginx_worker_processes: auto
    nginx_vhosts: [{server_name: example.net}]
  hosts:
    localhost: {ansible_connection: local, ansible_python_interpreter: "{{ ansible_playbook_python }}"}
  children:
    windows:
      vars: {ansible_connection: winrm, ansible_user: "{{ winuser }}", ansible_password: "{{ vault_winpass }}"}
      hosts: {win-01: , win-02: }
    web:
      hosts: {lab-001: , lab-002: }
"""


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(2)


@pytest.fixture
def inventory(lab: Lab, tmp_path: Path) -> Path:
    """The lab's hosts among others; what the lab says of them is in `group_vars` and `host_vars`."""
    found = re.search(r"^  vars:\n(?P<vars>.*)^  hosts:\n(?P<hosts>.*)", lab.inventory.read_text(), re.M | re.S)
    assert found is not None
    (tmp_path / "group_vars" / "web").mkdir(parents=True)
    (tmp_path / "host_vars").mkdir()
    (tmp_path / "group_vars" / "web" / "lab.yml").write_text(found["vars"])
    (tmp_path / "group_vars" / "web" / "vault.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n36313632\n")
    for name, variables in re.findall(r"^    (lab-\S+): (\{.*\})$", found["hosts"], re.M):
        (tmp_path / "host_vars" / f"{name}.json").write_text(re.sub(r"(\w+): ", r'"\1": ', variables))
    path = tmp_path / "hosts.yaml"
    path.write_text(ALL_SORTS)
    return path


def test_the_line_of_a_refusal_leads_to_the_hosts(lab: Lab, inventory: Path) -> None:
    refused = fleet(lab, "status", inventory=inventory)

    line = re.search(r"`fleet status [^`]*?(-l [^`]*)`", refused.err)
    assert (refused.code, line is not None) == (2, True), refused.said
    status = fleet(lab, "status", "--json", *shlex.split(line[1] if line else ""), inventory=inventory)
    assert status.code == 0, status.said
    assert [host["name"] for host in json.loads(status.out)["hosts"]] == ["lab-001", "lab-002"]


def test_the_web_servers_among_other_machines_are_upgraded_and_taken_back(
    lab: Lab, inventory: Path, tmp_path: Path
) -> None:
    release = make_release("new", tmp_path / "nginx")
    before = [look(host).running_sha256 for host in lab.hosts]

    upgrade = fleet(
        lab, "upgrade", str(release), "-y", "--bake", "0s", "--settle", "500ms", "-l", "web", inventory=inventory
    )

    assert upgrade.code == 0, upgrade.said
    assert [each for each in before if each in [look(host).running_sha256 for host in lab.hosts]] == []
    for note in (
        "ansible_pipelining (2 hosts)",
        "app_dir (2 hosts)",
        "api_key (2 hosts)",
        "3 hosts outside --limit",
        "vault.yml",
    ):
        assert upgrade.err.count(note) == 1, upgrade.err
    assert fleet(lab, "rollback", "-y", "-l", "web", inventory=inventory).code == 0
    assert [look(host).running_sha256 for host in lab.hosts] == before
