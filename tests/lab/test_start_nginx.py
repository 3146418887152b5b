"""A host without a master: what status and the failure of a rollback say is run there, and nginx serves again."""

from pathlib import Path

import pytest

from fleet.errors import FleetError
from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.hosts.nginx import PACKAGED
from fleet.lab.lab import Lab
from tests.lab.conftest import MakeLab
from tests.lab.test_lease import UPGRADE, wait_until_equal
from tests.support.lab.operator import fleet, status

UNIT, HAND = "lab-001", "lab-002"
START = "systemctl start nginx.service"


@pytest.fixture(scope="module")
def hosts(make_lab: MakeLab) -> Lab:
    return make_lab(2, {UNIT: "systemd", HAND: "systemd-by-hand"})


def host_of(lab: Lab, name: str) -> LabHost:
    return next(host for host in lab.hosts if host.name == name)


def end_every_nginx(host: LabHost) -> None:
    host.sh("pkill -KILL nginx || true; until ! pgrep -x nginx >/dev/null; do sleep 0.02; done")


def starts(lab: Lab, name: str, command: str) -> None:
    """status and a rollback say this command, and it starts nginx."""
    told = status(lab)[name]
    assert (told["phase"], told["start_command"]) == ("DOWN", command)
    said = fleet(lab, "rollback", "-y", "-l", name).said
    assert f"`{command}`" in " ".join(said.split()), said
    host_of(lab, name).sh(told["start_command"])
    wait_until_equal(lambda: status(lab)[name]["phase"] != "DOWN", True, "nginx serves again")


def test_a_held_nginx_of_a_unit_that_died_is_started_by_its_unit_and_one_of_a_person_by_its_command(
    hosts: Lab, release: Path
) -> None:
    ran = fleet(hosts, "upgrade", str(release), *UPGRADE, "--bake", "0s", "--commit", "never", "--output", "jsonl")
    assert ran.code == 0, ran.said
    warned = {one["host"] for one in ran.events if one.get("reason") == "started_beside_unit"}
    assert warned == {HAND}
    for name in (UNIT, HAND):
        end_every_nginx(host_of(hosts, name))

    starts(hosts, UNIT, START)
    starts(hosts, HAND, PACKAGED.program)


LIMITED = "[Unit]\\nStartLimitIntervalSec=1h\\n[Service]\\nRestart=on-failure\\nRestartSec=50ms\\n"
DROP_IN = "/run/systemd/system/nginx.service.d/limited.conf"


def test_a_unit_that_was_started_too_often_is_reset_first(hosts: Lab) -> None:
    host = host_of(hosts, UNIT)
    host.sh(f"mkdir -p $(dirname {DROP_IN}); printf '{LIMITED}' >{DROP_IN}; systemctl daemon-reload")
    host.sh(
        f"cp {PACKAGED.config} /root/good.conf; echo nonsense >> {PACKAGED.config}; systemctl restart nginx || true"
    )
    wait_until_equal(lambda: host.sh("systemctl show nginx --value -p ActiveState").strip(), "failed", "it is given up")
    host.sh(f"cp /root/good.conf {PACKAGED.config}")
    with pytest.raises(FleetError):
        host.sh(START)

    told = status(hosts)[UNIT]

    assert told["start_command"] == f"systemctl reset-failed nginx.service && {START}"
    host.sh(told["start_command"])
    assert status(hosts)[UNIT]["phase"] != "DOWN"
