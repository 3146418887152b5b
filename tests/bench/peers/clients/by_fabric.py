"""Plain Fabric: a group of threads, `put`, then `run`. Like most such scripts it accepts any host key."""

import sys

from fabric import Config, ThreadingGroup

from tests.bench.peers.clients.task import given


def main() -> int:
    task = given()
    hosts = ThreadingGroup(
        *task.addresses,
        user="root",
        config=Config(lazy=True),
        connect_kwargs={"key_filename": task.key, "look_for_keys": False, "allow_agent": False},
    )
    if task.release:
        hosts.put(task.release, task.target)
    hosts.run(task.command, hide=True, in_stream=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
