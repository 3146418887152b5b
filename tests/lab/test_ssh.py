"""Visits of lab hosts: a network, an sshd and a step script as they are on real ones."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.events import Event, EventType
from fleet.inventory import load
from fleet.lab.lab import Lab
from fleet.lab.releases.build import make_release
from fleet.onhost.protocol import MAY_DO, PROTOCOL, Ask, Goal, Outcome, Phase, Request, Rest, Step
from fleet.ssh.visit import visit
from fleet.task import Connecting, Deadlines, HostTask
from tests.support.lab.operator import fleet

HASTY = Deadlines(connect_s=3, banner_s=3, auth_s=10, channel_s=10, silence_s=60, transfer_idle_s=10)


def a_task(lab: Lab, name: str, ask: Ask, release: Path | None = None) -> HostTask:
    """A visit of that host, as the inventory describes it."""
    (host,) = load((lab.inventory,)).select((name,))
    target = hashlib.sha256(release.read_bytes()).hexdigest() if release else None
    request = Request(
        protocol=PROTOCOL,
        ask=ask,
        rollout="r-1",
        epoch=1,
        operator="ann@laptop",
        goal=Goal(target, Rest.HELD) if target else None,
        allowed=MAY_DO[ask],
        layout=host.layout,
        release_bytes=release.stat().st_size if release else None,
    )
    return HostTask(host, request, release_path=str(release) if release else None, deadlines=HASTY)


def no_sink(event: Event) -> None:
    """These tests look at the outcome."""


@pytest.mark.parametrize(("transfer", "name"), [("sftp", "lab-001"), ("scp", "lab-002"), ("exec", "lab-003")])
def test_a_release_is_staged_once_by_each_way(lab: Lab, tmp_path: Path, transfer: str, name: str) -> None:
    release = make_release("new", tmp_path / "nginx")
    task = replace(a_task(lab, name, Ask.STAGE, release), connecting=Connecting(transfer=transfer))
    events: list[Event] = []

    first = visit(task, events.append)
    second = visit(task, events.append)

    assert (first.outcome, second.outcome) == (Outcome.DONE, Outcome.DONE), (first, second)
    assert [event.data.get("transfer") for event in events if event.type is EventType.NOTE] == [transfer]
    digest = hashlib.sha256(release.read_bytes()).hexdigest()
    there = lab.host(name).sh(f"cd /var/lib/fleet/releases && sha256sum */* && ls -A {digest}")
    assert there.split() == [digest, f"{digest}/nginx", "nginx"]


def test_the_report_of_a_host_comes_back(lab: Lab) -> None:
    outcome = visit(a_task(lab, "lab-001", Ask.LOOK), no_sink)

    assert outcome.report is not None
    assert outcome.report.phase is Phase.OLD
    assert outcome.report.running_version is not None


def test_hosts_are_reached_through_the_bastion_of_the_common_arguments(lab: Lab, tmp_path: Path) -> None:
    """The ssh_config knows the bastion's key and login; that there is one says only the inventory."""
    bastion, behind = lab.host("lab-003"), ("lab-001", "lab-002")
    config = tmp_path / "ops.cfg"
    config.write_text(
        f"Host gate\n  HostName {bastion.address}\n  HostKeyAlias {bastion.name}\n  IdentityFile {lab.paths.private_key}\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {lab.paths.known_hosts}\n"
    )
    inventory = tmp_path / "hosts.yml"
    common = f"ansible_ssh_common_args: '-F {config} -o ProxyJump=root@gate'"
    inventory.write_text(lab.inventory.read_text().replace("fleet_ssh_config: none", common))
    for host in lab.hosts:
        host.sh(": >/var/log/sshd.log")

    ran = fleet(lab, "status", "--json", "-l", "all:!lab-003", inventory=inventory)

    assert ran.code == 0, ran.said
    assert [(one["name"], one["phase"]) for one in json.loads(ran.out)["hosts"]] == [(name, "OLD") for name in behind]
    assert bastion.sh("cat /var/log/sshd.log").count("Accepted publickey") == 1
    for name in behind:
        log = lab.host(name).sh("cat /var/log/sshd.log")
        assert set(re.findall(r"Accepted publickey for root from (\S+)", log)) == {bastion.address}


def test_a_host_whose_link_is_cut_before_the_visit_is_unreachable(lab: Lab) -> None:
    lab.host("lab-002").cut()

    outcome = visit(a_task(lab, "lab-002", Ask.LOOK), no_sink)

    lab.host("lab-002").heal()
    assert outcome.outcome is Outcome.UNREACHABLE
    assert outcome.reason in ("timed_out", "unreachable_no_route")
    assert visit(a_task(lab, "lab-002", Ask.LOOK), no_sink).outcome is Outcome.DONE


def test_a_link_that_is_cut_after_the_upload_changed_nothing(lab: Lab, tmp_path: Path) -> None:
    release = make_release("new", tmp_path / "nginx", version="1.22.8")
    task = impatient(a_task(lab, "lab-003", Ask.STAGE, release))

    def cut(event: Event) -> None:
        if event.type is EventType.NOTE:
            lab.host("lab-003").cut()

    outcome = visit(task, cut)
    lab.host("lab-003").heal()

    assert (outcome.outcome, outcome.reason) == (Outcome.LINK_LOST, "no_answer"), "the request was on its way again"
    assert visit(a_task(lab, "lab-003", Ask.STAGE, release), no_sink).outcome is Outcome.DONE


def test_a_link_that_is_cut_in_a_step_is_lost_and_the_host_comes_to_rest(lab: Lab, tmp_path: Path) -> None:
    """The network gives no error: that the host's sshd answers no more is what ends the wait."""
    release = make_release("new", tmp_path / "nginx", version="1.22.7")
    assert visit(a_task(lab, "lab-001", Ask.STAGE, release), no_sink).outcome is Outcome.DONE

    def cut(event: Event) -> None:
        if event.type is EventType.STEP_STARTED and event.step is Step.VERIFY:
            lab.host("lab-001").cut()

    outcome = visit(impatient(a_task(lab, "lab-001", Ask.UPGRADE, release)), cut)
    lab.host("lab-001").heal()
    back = visit(a_task(lab, "lab-001", Ask.ROLLBACK, release), no_sink)

    assert (outcome.outcome, outcome.reason) == (Outcome.LINK_LOST, "no_answer")
    assert back.report is not None
    assert back.report.phase is Phase.OLD


def impatient(task: HostTask) -> HostTask:
    """The same, given up after a few seconds without an answer."""
    return replace(task, deadlines=replace(HASTY, channel_s=3, silence_s=3))
