"""A pyinfra deploy: `files.put`, then `server.shell`. The task is the file that FLEET_BENCH_TASK names."""

import os

from pyinfra.operations import files, server

from tests.bench.peers.clients.task import given

task = given(os.environ["FLEET_BENCH_TASK"])
if task.release:
    files.put(name="release", src=task.release, dest=task.target)
server.shell(name="command", commands=[task.command])
