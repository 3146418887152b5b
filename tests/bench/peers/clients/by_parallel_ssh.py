"""parallel-ssh (libssh2, gevent): `scp_send`, then `run_command`. It does not check host keys."""

import sys

from gevent import joinall
from pssh.clients import ParallelSSHClient

from tests.bench.peers.clients.task import given


def main() -> int:
    task = given()
    client = ParallelSSHClient(
        task.addresses, user="root", pkey=task.key, pool_size=task.at_once, allow_agent=False, identity_auth=False
    )
    if task.release:
        joinall(client.scp_send(task.release, task.target), raise_error=True)
    output = client.run_command(task.command)
    client.join(output)
    return 1 if any(host.exit_code != 0 for host in output) else 0


if __name__ == "__main__":
    sys.exit(main())
