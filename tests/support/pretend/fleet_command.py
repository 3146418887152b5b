"""`python -m tests.support.pretend.fleet_command STATE WORDS...`: `fleet` on pretend hosts; their phases go to STATE."""

import atexit
import sys
from pathlib import Path

from fleet import cli
from fleet.engine import Visits
from fleet.environment import Environment
from tests.support.pretend.visits import a_fleet


def main() -> None:
    """The process ends as `fleet` does."""
    state, sys.argv = Path(sys.argv[1]), ["fleet", *sys.argv[2:]]
    hosts = a_fleet(4)
    atexit.register(lambda: state.write_text(" ".join(host.phase().value for host in hosts.hosts.values())))
    visits = Visits(hosts.visit, hosts.request_stop, hosts.cut_all)
    cli.main(Environment(visits=lambda: visits, prepare=lambda hosts, connecting: ()))


if __name__ == "__main__":
    main()
