"""A whole fleet behind one bastion with OpenSSH's default limits: one login at the bastion, and no connection is refused.

`FLEET_BEHIND_BASTION` says how many hosts there are behind it; the evidence in docs/ssh.md is of 200.
"""

import os
import re
from pathlib import Path

import pytest

from fleet.lab.lab import Lab
from tests.lab.conftest import MakeLab
from tests.support.lab.operator import fleet, look, sha256

HOSTS = int(os.environ.get("FLEET_BEHIND_BASTION", "200"))

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """The last host is the bastion: MaxStartups and MaxSessions are OpenSSH's own."""
    lab = make_lab(HOSTS + 1)
    lab.hosts[-1].sh("sed -i '/^MaxS/d' /etc/ssh/sshd_config; kill -HUP $(cat /run/sshd.pid)")
    return lab


def test_all_hosts_behind_one_bastion_are_upgraded_through_one_login(lab: Lab, release: Path, tmp_path: Path) -> None:
    bastion, behind = lab.hosts[-1], lab.hosts[:-1]
    config = tmp_path / "config"
    config.write_text(
        f"Host bastion\n  HostName {bastion.address}\n  HostKeyAlias {bastion.name}\n  User root\n"
        f"  IdentityFile {lab.paths.private_key}\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {lab.paths.known_hosts}\nHost * !bastion\n  ProxyJump bastion\n"
    )
    for host in behind:
        host.sh(": >/var/log/sshd.log")
    bastion.sh(": >/var/log/sshd.log")

    ran = fleet(
        lab, "upgrade", str(release), "-y", "-F", str(config), "-l", f"all:!{bastion.name}", "--batches", "100%",
        "--bake", "0s", "--settle", "500ms", "--output", "jsonl", timeout_s=1500,
    )  # fmt: skip

    log = bastion.sh("cat /var/log/sshd.log")
    ended = [one for one in ran.events if one["type"] == "visit_ended"]
    print(f"{len(behind)} hosts, {len(ended)} visits through one login; {ran.events[-1]['message']}")
    assert [(one["host"], one["reason"], one["message"]) for one in ended if one["outcome"] != "done"] == [], log
    assert ran.code == 0, ran.said[-2000:]
    assert len(re.findall("Accepted publickey", log)) == 1, log
    assert "beginning MaxStartups throttling" not in log
    assert [(one["reason"], one["message"]) for one in ran.events if one["type"] == "note" and one["reason"]] == []
    for host in behind:
        assert look(host).running_sha256 == sha256(release)
        peers = set(re.findall(r"Accepted publickey for root from (\S+)", host.sh("cat /var/log/sshd.log")))
        assert peers == {bastion.address}
