"""Hosts under an attacker's control: each is reported, and none harms the laptop, the terminal or the other hosts."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.lab import Lab
from fleet.lab.releases.build import DEFAULT_BASE
from fleet.onhost.protocol import END_MARK, Outcome, Phase, Reply, ReplyType, Report, Severity
from fleet.onhost.views import MasterView
from fleet.onhost.wire import encode
from fleet.ssh.remote.command import MAX_REPLIES
from tests.lab.conftest import MakeLab
from tests.support.lab.operator import fleet, look, read, sha256, start

BASE = sha256(DEFAULT_BASE)
EVIL = "\x1b[2J\x1b]0;owned\x07\u202e<script>alert(1)</script>\r\n\x9b31m"
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")
MOST_RATIO = 1.5
"""How much more memory than without hostile hosts the controller may take at its most."""


def speaks(*replies: Reply) -> str:
    """What a host prints that knows the step script's language."""
    return "".join(encode(reply) + "\n" for reply in replies) + END_MARK + "\n"


EVIL_REPORT = Report(
    phase=Phase.OLD,
    masters=(MasterView(7, EVIL, EVIL, False, 1, 0),),
    running_sha256="e" * 64,
    running_version=EVIL,
    path=EVIL,
    path_sha256=EVIL,
    held=False,
    record=None,
    epoch=0,
)
FINDINGS = speaks(
    *(Reply(ReplyType.FINDING, reason=f"x{n}", severity=Severity.WARNING, message="m" * 1500) for n in range(9900)),
    Reply(ReplyType.OUTCOME, outcome=Outcome.DONE, report=EVIL_REPORT),
)
LIE = 's/"running_sha256": *"[0-9a-f]*"/"running_sha256": "' + "0" * 64 + '"/'
SPEECHES = {
    "a line without an end": "echo fleet-begin; head -c 1000000000 /dev/zero | tr '\\0' x",
    "lines without an end": "echo fleet-begin; yes '{}' | head -c 1000000000",
    "broken JSON": "echo fleet-begin; read -r _; echo '{\"type\": '",
    "terminal escapes": "echo fleet-begin; read -r _; cat /evil",
    "findings without end": "echo fleet-begin; read -r _; cat /findings",
    "a lying hash": f"""case "$SSH_ORIGINAL_COMMAND" in
*fleet-begin*) sh -c "$SSH_ORIGINAL_COMMAND" | sed -u '{LIE}';;
*) exec sh -c "$SSH_ORIGINAL_COMMAND";;
esac""",
}
WORDS = {
    "a line without an end": ("too_much_output",),
    # Each line is no answer, and there are too many: whichever is seen first.
    "lines without an end": ("too_much_output", "garbled"),
    "broken JSON": ("garbled",),
    "terminal escapes": (None,),
    "findings without end": ("too_much_output",),
    "a lying hash": (None,),
}


@pytest.fixture(scope="module")
def hosts(make_lab: MakeLab) -> Lab:
    return make_lab(len(SPEECHES) + 2)


@pytest.fixture
def lab(hosts: Lab) -> Iterator[Lab]:
    """One host speaks each of the speeches; the two last ones are as they should be, and all are in the end."""
    for host, speech in zip(hosts.hosts, SPEECHES.values(), strict=False):
        evil = speaks(Reply(ReplyType.OUTCOME, outcome=Outcome.DONE, reason=EVIL, message=EVIL, report=EVIL_REPORT))
        host.exec(["/bin/sh", "-c", "cat >/evil"], input=evil.encode())
        host.exec(["/bin/sh", "-c", "cat >/findings"], input=FINDINGS.encode())
        host.exec(["/bin/sh", "-c", "cat >/hostile; chmod 755 /hostile"], input=f"#!/bin/sh\n{speech}\n".encode())
        with_sshd(host, "echo 'ForceCommand /hostile' >>/etc/ssh/sshd_config")
    yield hosts
    for host in hosts.hosts:
        with_sshd(host, "sed -i /ForceCommand/d /etc/ssh/sshd_config")


def with_sshd(host: LabHost, change: str) -> None:
    """The sshd of the host has read its configuration again after the change."""
    host.sh(f"{change}; kill -HUP $(cat /run/sshd.pid)")
    host.sh("until ss -Hltn sport = :22 | grep -q LISTEN; do sleep 0.02; done", timeout_s=30)


def named(lab: Lab, speech: str) -> str:
    return lab.hosts[list(SPEECHES).index(speech)].name


def good(lab: Lab) -> list[LabHost]:
    return list(lab.hosts[len(SPEECHES) :])


def peak_kb(lab: Lab, *words: str) -> tuple[int, str]:
    """The most memory that a fleet command had, and what it wrote."""
    with start(lab, *words, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, _, used = os.wait4(process.pid, 0)
        process.returncode = 0
    return used.ru_maxrss, said


def test_hostile_hosts_are_marked_and_the_others_answer(lab: Lab) -> None:
    few, _ = peak_kb(lab, "status", "--json", "-l", ",".join(host.name for host in good(lab)))
    most, said = peak_kb(lab, "status", "--json")

    told = {host["name"]: host for host in json.loads(said)["hosts"]}
    for speech, words in WORDS.items():
        error = told[named(lab, speech)]["error"]
        assert (error and error["reason"]) in words, (speech, told[named(lab, speech)])
    assert all(told[host.name]["phase"] == "OLD" and told[host.name]["running_sha256"] == BASE for host in good(lab))
    print(
        f"memory at most: {few / 1024:.0f} MB for two good hosts, {most / 1024:.0f} MB with {len(SPEECHES)} hostile ones"
    )
    assert most < MOST_RATIO * few


@pytest.mark.parametrize("words", [("-v",), ("--json",)], ids=str)
def test_no_control_character_of_theirs_reaches_the_terminal(lab: Lab, words: tuple[str, ...]) -> None:
    ran = fleet(lab, "status", *words)

    assert CONTROL.search(ran.said.replace("\n", "")) is None
    assert ran.code == 4


def test_a_host_with_endless_findings_fills_no_journal(lab: Lab, release: Path) -> None:
    """Each finding is an event, and each event is written to the disk before the next one is looked at."""
    ran = fleet(lab, "upgrade", str(release), "-y", "--output", "jsonl", "-l", named(lab, "findings without end"))

    found = [one for one in ran.events if one["type"] == "finding"]
    ended = [one["reason"] for one in ran.events if one["type"] == "visit_ended"]
    assert set(ended) == {"too_much_output"}, ran.said
    assert len(found) <= MAX_REPLIES * len(ended)


def test_a_rollout_without_them_continues_and_one_with_the_liar_names_it(lab: Lab, release: Path) -> None:
    liar = named(lab, "a lying hash")
    chosen = ",".join([liar, named(lab, "terminal escapes"), *(host.name for host in good(lab))])
    words = ("--bake", "0s", "--settle", "500ms", "--batches", "100%", "--on-failure", "continue", "--output", "jsonl")

    ran = fleet(lab, "upgrade", str(release), "-y", "-l", chosen, *words)

    assert ran.code == 4, ran.said
    ended = {one["host"]: one for one in ran.events if one["type"] == "visit_ended"}
    assert all(look(host).running_sha256 == sha256(release) for host in good(lab))
    lies = [one for one in ran.events if one.get("host") == liar and one.get("reason") == "garbled"]
    assert lies, ended[liar]
    assert "and runs 000000000000" in lies[0]["message"]
    shown = read(lab, "show")
    assert "alert(1)" in shown, "the journal has what was said"
    assert CONTROL.search(shown.replace("\n", "")) is None
