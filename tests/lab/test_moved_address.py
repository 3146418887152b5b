"""A listening address that is on another node by now: nginx holds it and hands it over, so it stops neither way."""

from pathlib import Path

import pytest

from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.hosts.nginx import CONFIG, PID_FILE, START
from fleet.lab.lab import Lab
from fleet.lab.releases.build import DEFAULT_BASE, make_release
from tests.lab.conftest import MakeLab
from tests.support.lab.operator import fleet, look, sha256

ADDRESSES = {"198.51.100.7": "", "203.0.113.9": " reuseport"}
"""Each address, with the options of its `listen`."""
RESTART = f"kill -QUIT $(cat {PID_FILE}); while [ -e {PID_FILE} ]; do sleep 0.01; done"


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(len(ADDRESSES))


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release("new", tmp_path_factory.mktemp("release") / "nginx")


def there(host: LabHost, address: str) -> None:
    host.sh(f"ip address add {address}/32 dev lo")


def moved_away(host: LabHost, address: str) -> None:
    host.sh(f"ip address del {address}/32 dev lo")


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_that_has_moved_away_stops_neither_the_upgrade_nor_the_rollback_after_its_commit(
    lab: Lab, release: Path, address: str
) -> None:
    host = lab.hosts[list(ADDRESSES).index(address)]
    listen = f"{address}:8443{ADDRESSES[address]}"
    there(host, address)
    host.sh(f"{RESTART}; sed -i 's/listen 80;/listen 80; listen {listen};/' {CONFIG}; {START}")
    moved_away(host, address)

    checked = fleet(lab, "check", str(release), "-l", host.name)
    ran = fleet(lab, "upgrade", str(release), "-y", "--bake", "0s", "--settle", "500ms", "-l", host.name)

    assert checked.code == 0, checked.said
    assert ran.code == 0, ran.said
    assert look(host).running_sha256 == sha256(release)

    back = fleet(lab, "rollback", "-y", "-l", host.name)

    assert back.code == 0, back.said
    assert look(host).running_sha256 == sha256(DEFAULT_BASE)
    there(host, address)
    ask = f"import urllib.request; print(urllib.request.urlopen('http://{address}:8443/health', timeout=5).status)"
    assert host.sh(f'python3 -c "{ask}"').strip() == "200"
