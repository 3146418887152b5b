"""Become `pyinfra`, with an inventory of the task's hosts."""

import os
import sys
from pathlib import Path

from tests.bench.peers.clients.task import given

task = given()
folder = Path(sys.argv[1]).parent
data = {"ssh_user": "root", "ssh_key": task.key, "ssh_known_hosts_file": task.known_hosts}
inventory = folder / "pyinfra_hosts.py"
inventory.write_text(f"hosts = ({task.addresses!r}, {data!r})\n")
os.environ["FLEET_BENCH_TASK"] = sys.argv[1]
os.environ["PYTHONPATH"] = str(Path(__file__).parents[4])
os.chdir(folder)
program = str(Path(sys.executable).with_name("pyinfra"))
deploy = str(Path(__file__).with_name("by_pyinfra.py"))
os.execv(program, [program, "-y", "--parallel", str(task.at_once), str(inventory), deploy])
