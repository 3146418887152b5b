"""Become `ansible-playbook`: pipelining, connections that persist, as many forks as hosts at once, no facts."""

import json
import os
import sys
from pathlib import Path

from tests.bench.peers.clients.task import given

task = given()
folder = Path(sys.argv[1]).parent
key = f"ansible_user=root\nansible_ssh_private_key_file={task.key}\nansible_python_interpreter=/usr/bin/python3"
hosts = [f"{name} ansible_host={address}" for name, address in zip(task.names, task.addresses, strict=True)]
(folder / "ansible_hosts.ini").write_text("\n".join(["[all]", *hosts, "[all:vars]", key, ""]))
(folder / "command.sh").write_text(task.command + "\n")
ssh = (
    f"-o ControlMaster=auto -o ControlPersist=60s -o KexAlgorithms=curve25519-sha256 "
    f"-o UserKnownHostsFile={task.known_hosts} -o GlobalKnownHostsFile=/dev/null -o IdentityAgent=none"
)
(folder / "ansible.cfg").write_text(
    f"[defaults]\nforks = {task.at_once}\ninventory = {folder}/ansible_hosts.ini\nlocal_tmp = {folder}/ansible-tmp\n"
    f"[ssh_connection]\npipelining = True\nssh_args = {ssh}\ncontrol_path_dir = {folder}/cp\n"
)
os.environ["ANSIBLE_CONFIG"] = str(folder / "ansible.cfg")
values = {"release": task.release or "", "target": task.target, "script": str(folder / "command.sh")}
program = str(Path(sys.executable).with_name("ansible-playbook"))
playbook = str(Path(__file__).parents[1] / "playbook.yml")
os.execv(program, [program, "-e", json.dumps(values), playbook])
