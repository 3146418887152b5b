"""Hosts on which packages can be installed: by the machine's dpkg, into a database of their own."""

from pathlib import Path

import pytest

from fleet.errors import Refused
from fleet.lab.hosts import dpkg
from fleet.lab.hosts.lab_host import LabHost
from tests.lab.conftest import MakeLab
from tests.support.lab.inside import Inside
from tests.support.lab.operator import look, sha256
from tests.support.lab.packages import COMMON, NGINX, install, installed_version, offer, repack, send, unrelated

STATUS = Path("/var/lib/dpkg/status")


@pytest.fixture
def host(make_lab: MakeLab) -> LabHost:
    return make_lab(1, {"lab-001": "debian-package"}).host("lab-001")


def test_a_newer_package_upgrades_the_binary_that_runs_and_the_machine_has_its_own(
    host: LabHost, release: Path, tmp_path: Path
) -> None:
    machine, old, before = STATUS.read_bytes(), look(host), installed_version(host)

    said = install(host, repack(NGINX, "+lab1", tmp_path, binary=release))

    assert "Upgrading binary: nginx" in said
    seen = look(host)
    assert seen.masters == (seen.pid,)
    assert seen.pid != old.pid
    assert seen.running_sha256 == seen.path_sha256 == sha256(release)
    assert installed_version(host) == f"{before}+lab1"
    assert host.sh("dpkg -V nginx") == ""
    assert host.sh("systemctl show nginx --value -p MainPID").strip() == str(seen.pid)
    assert STATUS.read_bytes() == machine


def test_both_of_nginx_s_packages_restart_it(host: LabHost, release: Path, tmp_path: Path) -> None:
    old = look(host)

    install(host, repack(COMMON, "+lab1", tmp_path), repack(NGINX, "+lab1", tmp_path, binary=release))

    assert look(host).pid != old.pid
    assert installed_version(host, COMMON).endswith("+lab1")
    assert look(host).running_sha256 == sha256(release)


def test_apt_sees_what_is_offered_and_leaves_nginx_alone_for_another_package(
    host: LabHost, release: Path, tmp_path: Path
) -> None:
    old = look(host)
    offer(host, repack(NGINX, "+lab1", tmp_path, binary=release), unrelated(tmp_path))

    assert "Inst nginx [" in host.sh("apt-get -s upgrade")
    host.sh("apt-mark hold nginx")
    assert "Inst nginx [" not in host.sh("apt-get -s upgrade")
    host.sh("DEBIAN_FRONTEND=noninteractive apt-get -y install lab-unrelated", timeout_s=120)

    assert installed_version(host, "lab-unrelated") == "1.0"
    assert look(host) == old


def test_only_configuration_as_the_package_has_it_comes_from_the_machine(host: LabHost) -> None:
    copied = dpkg.unchanged_files()

    assert "/etc/nginx/mime.types" in copied
    assert {path.split("/")[1] for path in copied} == {"etc"}
    assert host.sh(f"ls {' '.join(copied)}").split() == sorted(copied)


def test_a_package_that_there_is_not_is_refused_with_the_cure() -> None:
    with pytest.raises(Refused, match="can't get the packages lab-has-no-such-package") as refused:
        dpkg.fetch(("lab-has-no-such-package",))

    assert refused.value.remedy == "Run apt-get update."


@pytest.mark.long
def test_needrestart_restarts_what_runs_from_a_replaced_file_after_any_transaction(
    make_lab: MakeLab, tmp_path: Path
) -> None:
    host = make_lab(1, {"lab-001": "needrestart"}).host("lab-001")
    old = look(host)
    first, second = (send(host, unrelated(tmp_path, version)) for version in ("1.0", "1.1"))

    host.sh(f"DEBIAN_FRONTEND=noninteractive apt-get -y install {first}", timeout_s=120)
    assert look(host) == old

    host.sh("cp /usr/sbin/nginx /usr/sbin/nginx.new && mv /usr/sbin/nginx.new /usr/sbin/nginx")
    said = host.sh(f"DEBIAN_FRONTEND=noninteractive apt-get -y install {second}", timeout_s=120)

    assert "systemctl restart nginx.service" in said
    assert look(host).pid != old.pid
    assert len(Inside(host).masters()) == 1
