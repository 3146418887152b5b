"""An ordinary login becomes root by the real sudo and doas, and no account is locked by it."""

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet.host import Host
from fleet.onhost.protocol import Ask, Layout, Outcome
from fleet.ssh.auth.secrets import SECRETS, SecretKind
from fleet.ssh.delivery.bundle import Bundle
from fleet.ssh.remote.become import forget_asking
from fleet.ssh.visit import forget_stop, request_stop, visit
from fleet.task import HostOutcome
from tests.support.places import ROOT
from tests.support.ssh.ordinary import PASSWORD, USER, Ordinary, ordinary
from tests.support.ssh.server import Sshd
from tests.support.ssh.stubs import Heard, a_task, stub

WHO = 'import os\nend(message="%d %s" % (os.getuid(), request.operator))'
STAGES = """
import gzip, hashlib, os
folder = os.path.join(request.layout.state_dir, "releases", request.goal.target)
part = os.path.join(folder, "nginx.part.gz")
if not os.path.exists(part):
    os.makedirs(folder, exist_ok=True)
    end(Outcome.REFUSED, reason="release_missing")
    take_release(part)
end(message=hashlib.sha256(gzip.open(part).read()).hexdigest())
"""
FREE = f"{USER} ALL=(root) NOPASSWD: /bin/sh"
ASKED = f"{USER} ALL=(root) /bin/sh"
TERMINALS = ["", "Defaults requiretty", "Defaults use_pty", "Defaults requiretty, use_pty"]
CONTENT = bytes(range(256)) * 4096 + os.urandom(1 << 20) + b"\r\n\x03\x04\x1a\x00end"


@pytest.fixture(scope="module")
def shared() -> Iterator[Ordinary]:
    with ordinary() as running:
        yield running


@pytest.fixture
def machine(shared: Ordinary) -> Iterator[Ordinary]:
    """A host whose login has no sudo or doas rule yet, and no password."""
    for path in (shared.etc / "sudoers.d").iterdir():
        path.unlink()
    shared.forbid()
    SECRETS.forget()
    forget_asking()
    yield shared
    SECRETS.forget()


@pytest.fixture
def host(machine: Ordinary) -> Host:
    """That host with a state folder of this test's own."""
    return replace(machine.sshd.host, layout=machine.sshd.host.layout._replace(state_dir=str(machine.new_folder())))


def of(outcome: HostOutcome) -> tuple[Outcome, str | None]:
    return outcome.outcome, outcome.reason


def carry_out(machine: Ordinary, remedy: str) -> None:
    """Runs the remedy's command on the host as root."""
    (command,) = re.findall(r": ((?:echo|printf) .*)$", remedy)
    subprocess.run(["sh", "-c", command.replace("/etc/", f"{machine.etc}/")], check=True)


# sudo without a password


@pytest.mark.parametrize("defaults", TERMINALS)
def test_a_login_that_sudo_lets_in_is_root_for_the_visit(
    machine: Ordinary, host: Host, tmp_path: Path, defaults: str
) -> None:
    machine.allow(defaults, FREE)

    outcome = visit(a_task(host), Heard(), stub(tmp_path, WHO))

    assert of(outcome) == (Outcome.DONE, None)
    assert outcome.message == "0 ann@laptop"
    assert machine.failed_logins == 0


def test_a_password_that_sudo_does_not_ask_for_does_not_end_up_in_the_request(
    machine: Ordinary, host: Host, tmp_path: Path
) -> None:
    machine.allow("Defaults requiretty", FREE)
    SECRETS.put(SecretKind.BECOME, PASSWORD)

    assert visit(a_task(host), Heard(), stub(tmp_path, WHO)).message == "0 ann@laptop"


def test_a_missing_password_is_refused_with_the_sudoers_line(machine: Ordinary, host: Host, tmp_path: Path) -> None:
    machine.allow(ASKED)

    refused = visit(a_task(host), Heard(), stub(tmp_path, WHO))
    counted = machine.failed_logins
    carry_out(machine, refused.remedy)
    (tmp_path / "again").mkdir()
    cured = visit(a_task(host), Heard(), stub(tmp_path / "again", WHO))

    assert of(refused) == (Outcome.REFUSED, "sudo_password")
    assert "a password is required" in refused.message
    assert "--ask-become-pass" in refused.remedy
    assert counted == 0
    assert of(cured) == (Outcome.DONE, None)


@pytest.mark.parametrize("method", ["sudo", "doas"])
@pytest.mark.parametrize("user", ["ann@corp.example", "CORP\\ann"])
def test_a_login_of_a_windows_domain_becomes_root_as_any_other(
    machine: Ordinary, host: Host, tmp_path: Path, user: str, method: str
) -> None:
    lines = {"passwd": f"{user}:x:61235:61234::/:/bin/sh\n", "shadow": f"{user}:*:19000:0:99999:7:::\n"}
    before = {name: (machine.etc / name).read_text() for name in lines}
    for name, line in lines.items():
        (machine.etc / name).write_text(before[name] + line)
    host = replace(host, user=user, become_method=method)
    available = stub(tmp_path, WHO)

    refused = visit(a_task(host), Heard(), available)
    carry_out(machine, refused.remedy)
    cured = visit(a_task(host), Heard(), available)
    for name, text in before.items():
        (machine.etc / name).write_text(text)

    assert f"let {user} become root without a password" in refused.message
    assert cured.message == "0 ann@laptop"


# sudo with a password


@pytest.mark.parametrize("defaults", [*TERMINALS, "Defaults timestamp_timeout=0", "Defaults passprompt_override"])
def test_the_password_lets_the_login_become_root(machine: Ordinary, host: Host, tmp_path: Path, defaults: str) -> None:
    machine.allow(defaults, ASKED)
    SECRETS.put(SecretKind.BECOME, PASSWORD)

    outcome = visit(a_task(host), Heard(), stub(tmp_path, WHO))

    assert of(outcome) == (Outcome.DONE, None)
    assert outcome.message == "0 ann@laptop"
    assert machine.failed_logins == 0


def test_sudo_is_not_made_to_refuse_at_every_visit(machine: Ordinary, host: Host, tmp_path: Path) -> None:
    log = machine.new_folder() / "sudo.log"
    machine.allow(f"Defaults logfile={log}, loglinelen=0", ASKED)
    SECRETS.put(SecretKind.BECOME, PASSWORD)
    available = stub(tmp_path, WHO)

    outcomes = [visit(a_task(host), Heard(), available) for _ in range(2)]

    assert [outcome.message for outcome in outcomes] == ["0 ann@laptop"] * 2
    told = log.read_text()
    assert told.count("a password is required") == 1
    assert PASSWORD not in told


def test_a_wrong_password_is_sent_once_to_a_host(machine: Ordinary, host: Host, tmp_path: Path) -> None:
    """One attempt may count as two failures: sudo asks again, and gets no answer."""
    machine.allow(ASKED)
    machine.forget_failures()
    SECRETS.put(SecretKind.BECOME, "wrong")
    available = stub(tmp_path, WHO)

    first = visit(a_task(host), Heard(), available)
    counted = machine.failed_logins
    again = visit(a_task(replace(host, name="other")), Heard(), available)
    last = machine.failed_logins
    machine.forget_failures()

    assert of(first) == of(again) == (Outcome.REFUSED, "become_password_wrong")
    assert f"refused the password that was given for {USER}" in first.message
    assert "refused on this host before" in again.message
    assert "wrong\n" not in first.message
    assert 1 <= counted <= 2
    assert last == counted


def several(machine: Ordinary, host: Host, folder: Path) -> list[Host]:
    """Hosts with accounts of their own, as far as fleet knows."""
    config = folder / "config"
    config.write_text(f"Host web-*\nHostName 127.0.0.1\nHostKeyAlias [127.0.0.1]:{machine.sshd.port}\n")
    names = [f"web-{number}" for number in range(4)]
    return [replace(host, name=name, address=name, ssh_config=str(config)) for name in names]


def visited(hosts: list[Host], available: Mapping[str, Bundle]) -> list[HostOutcome]:
    """The outcomes of visits at the same time."""
    with ThreadPoolExecutor(len(hosts)) as pool:
        return list(pool.map(lambda host: visit(a_task(host), Heard(), available), hosts))


@pytest.mark.parametrize(
    ("defaults", "said"),
    [("", "refused the password that was given"), ("Defaults passwd_tries=1", "it is wrong, or not enough")],
)
def test_a_password_is_not_sent_to_all_hosts_before_one_has_accepted_it(
    machine: Ordinary, host: Host, tmp_path: Path, defaults: str, said: str
) -> None:
    """A shared directory would count each attempt, and lock the account."""
    machine.allow(defaults, ASKED)
    machine.forget_failures()
    SECRETS.put(SecretKind.BECOME, "wrong")
    available = stub(tmp_path, WHO)
    hosts = several(machine, host, tmp_path)

    outcomes = visited(hosts, available)
    counted = machine.failed_logins
    machine.forget_failures()
    SECRETS.forget()
    SECRETS.put(SecretKind.BECOME, PASSWORD)
    cured = visited(hosts, available)

    spared = [outcome.message for outcome in outcomes if "accepted by no host" in outcome.message]
    tried = [outcome.host for outcome in outcomes if said in outcome.message]
    assert (len(tried), len(spared)) == (2, 2)
    assert all(host in message for host in tried for message in spared)
    assert counted <= 4
    assert [outcome.message for outcome in cured] == ["0 ann@laptop"] * 4


def test_a_password_is_not_sent_after_a_stop(
    machine: Ordinary, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator may have noticed a typing error while the other hosts wait for the first one's answer."""
    machine.allow(ASKED)
    machine.forget_failures()
    SECRETS.put(SecretKind.BECOME, "wrong")
    gate = SECRETS.gate(SecretKind.BECOME, USER)
    gate.enter("the first host")
    enter = gate.enter

    def turned_back(*words: Any) -> None:
        request_stop("r-stopped")
        enter(*words)

    monkeypatch.setattr(gate, "enter", turned_back)
    outcome = visit(a_task(host, rollout="r-stopped"), Heard(), stub(tmp_path, WHO))
    forget_stop("r-stopped")

    assert of(outcome) == (Outcome.REFUSED, "stopped")
    assert machine.failed_logins == 0


def test_a_right_password_without_a_sudo_rule_is_refused_with_the_rule(
    machine: Ordinary, host: Host, tmp_path: Path
) -> None:
    machine.allow(f"{USER} ALL=(root) /bin/true")
    SECRETS.put(SecretKind.BECOME, PASSWORD)

    refused = visit(a_task(host), Heard(), stub(tmp_path, WHO))
    carry_out(machine, refused.remedy)
    (tmp_path / "again").mkdir()
    cured = visit(a_task(host), Heard(), stub(tmp_path / "again", WHO))

    assert of(refused) == (Outcome.REFUSED, "become_denied")
    assert "is not allowed to execute '/bin/sh -c …" in refused.message
    assert len(refused.message) < 400
    assert of(cured) == (Outcome.DONE, None)


@pytest.mark.parametrize("method", ["sudo", "doas"])
def test_hosts_without_a_rule_do_not_count_against_the_password(
    machine: Ordinary, host: Host, tmp_path: Path, method: str
) -> None:
    """Two of them come first; the third host, which has the rule, gets the password all the same."""
    SECRETS.put(SecretKind.BECOME, PASSWORD)
    available = stub(tmp_path, WHO)
    hosts = [replace(each, become_method=method) for each in several(machine, host, tmp_path)[:3]]

    without = [visit(a_task(each), Heard(), available) for each in hosts[:2]]
    machine.allow(ASKED)
    machine.do(f"permit {USER} as root cmd /bin/sh")
    last = visit(a_task(hosts[2]), Heard(), available)

    assert [of(outcome) for outcome in without] == [(Outcome.REFUSED, "become_denied")] * 2
    assert {"sudo": "is not in the sudoers file", "doas": "asked for no password"}[method] in without[0].message
    assert last.message == "0 ann@laptop"
    assert machine.failed_logins == 0


def test_the_length_of_a_password_is_not_shown(machine: Ordinary, host: Host, tmp_path: Path) -> None:
    """`pwfeedback` shows a star for each letter."""
    machine.allow("Defaults pwfeedback", ASKED)
    machine.forget_failures()
    SECRETS.put(SecretKind.BECOME, "wrong")

    refused = visit(a_task(host), Heard(), stub(tmp_path, WHO))
    machine.forget_failures()

    assert of(refused) == (Outcome.REFUSED, "become_password_wrong")
    assert "*" not in refused.message


def test_a_host_that_gives_no_terminal_says_so(tmp_path: Path) -> None:
    with ordinary(first="mount -t tmpfs none /dev/pts") as bare:
        bare.allow(ASKED)
        SECRETS.put(SecretKind.BECOME, PASSWORD)
        host = replace(bare.sshd.host, layout=Layout(state_dir=str(bare.new_folder() / "state")))

        refused = visit(a_task(host), Heard(), stub(tmp_path, WHO))

    assert of(refused) == (Outcome.REFUSED, "become_terminal")
    assert "/dev/pts" in refused.remedy


def test_a_password_that_has_expired_is_not_changed(tmp_path: Path) -> None:
    """sudo asks for a new one then, which fleet must not choose."""
    with ordinary() as late:
        shadow = late.etc / "shadow"
        shadow.write_text(shadow.read_text().replace(":19000:0:99999:", ":0:0:99999:"))
        with (late.etc / "pam.d" / "sudo").open("a") as sink:
            sink.write("password required pam_unix.so\n")
        late.allow(ASKED)
        SECRETS.put(SecretKind.BECOME, PASSWORD)
        host = replace(late.sshd.host, layout=Layout(state_dir=str(late.new_folder() / "state")))

        refused = visit(a_task(host), Heard(), stub(tmp_path, WHO))

    assert of(refused) == (Outcome.REFUSED, "become_asks")
    assert "NOPASSWD" in refused.remedy


def test_a_script_that_dies_as_sudo_does_is_not_run_a_second_time(
    machine: Ordinary, host: Host, tmp_path: Path
) -> None:
    machine.allow(FREE)
    SECRETS.put(SecretKind.BECOME, PASSWORD)
    seen = Path(host.layout.state_dir) / "runs"
    body = f"open({str(seen)!r}, 'a').write('x')\nsys.exit(1)"

    outcome = visit(a_task(host), Heard(), stub(tmp_path, body))

    assert of(outcome) == (Outcome.LINK_LOST, "script_died")
    assert "exit status 1" in outcome.message
    assert seen.read_text() == "x"


def test_a_host_without_ansible_become_is_not_sent_the_password(server: Sshd, tmp_path: Path) -> None:
    """However the host asks for it: an attacker may control it."""
    thief = tmp_path / "thief"
    thief.write_text(f"#!/bin/sh\necho; echo fleet-wants-root root; timeout 0.5 cat > {tmp_path}/stolen\n")
    thief.chmod(0o755)
    keys = server.folder / "authorized_keys"
    before = keys.read_text()
    keys.write_text(f'command="{thief}" {before}')
    SECRETS.put(SecretKind.BECOME, PASSWORD)
    try:
        outcome = visit(a_task(server.host), Heard(), stub(tmp_path, WHO))
    finally:
        keys.write_text(before)
        SECRETS.forget()

    assert of(outcome) == (Outcome.REFUSED, "no_shell")
    assert (tmp_path / "stolen").read_bytes() == b""


# doas


def test_doas_lets_in_without_a_password_or_with_one(machine: Ordinary, host: Host, tmp_path: Path) -> None:
    host = replace(host, become_method="doas")
    available = stub(tmp_path, WHO)

    machine.do(f"permit nopass {USER} as root cmd /bin/sh")
    free = visit(a_task(host), Heard(), available)
    machine.do(f"permit {USER} as root cmd /bin/sh")
    SECRETS.put(SecretKind.BECOME, PASSWORD)
    asked = visit(a_task(host), Heard(), available)

    assert free.message == asked.message == "0 ann@laptop"
    assert machine.failed_logins == 0


def test_doas_that_requires_a_password_is_refused_with_its_own_rule(
    machine: Ordinary, host: Host, tmp_path: Path
) -> None:
    host = replace(host, become_method="doas")
    available = stub(tmp_path, WHO)
    machine.do(f"permit {USER} as root cmd /bin/sh")

    refused = visit(a_task(host), Heard(), available)
    counted = machine.failed_logins
    SECRETS.put(SecretKind.BECOME, "wrong")
    wrong = visit(a_task(host), Heard(), available)
    machine.forget_failures()
    carry_out(machine, refused.remedy)

    assert of(refused) == (Outcome.REFUSED, "sudo_password")
    assert counted == 0
    assert of(wrong) == (Outcome.REFUSED, "become_password_wrong")
    assert of(visit(a_task(host), Heard(), available)) == (Outcome.DONE, None)


# The bytes that are sent


@pytest.mark.parametrize("defaults", TERMINALS)
def test_a_visit_brings_bundle_and_release_through_sudo_byte_for_byte(
    machine: Ordinary, host: Host, tmp_path: Path, defaults: str
) -> None:
    machine.allow(defaults, ASKED)
    SECRETS.put(SecretKind.BECOME, PASSWORD)
    release = tmp_path / "nginx"
    release.write_bytes(CONTENT)
    outcome = visit(a_task(host, Ask.STAGE, release=release), Heard(), stub(tmp_path, STAGES))

    assert of(outcome) == (Outcome.DONE, None)
    assert outcome.message == hashlib.sha256(CONTENT).hexdigest()


# A login for fleet alone

FLEET_ONLY = """\
#!/bin/sh
case "$SSH_ORIGINAL_COMMAND" in "exec /bin/sh -c 'set -- /bin/sh -c "*) exec /bin/sh -c "$SSH_ORIGINAL_COMMAND" ;; esac
echo "this key is fleet's alone" >&2
exit 1
"""


def test_a_key_can_be_kept_to_fleet_s_own_commands(machine: Ordinary, host: Host, tmp_path: Path) -> None:
    """As in docs/ssh.md: with that key there is no shell, file transfer or forwarding, and one address only; fleet works."""
    machine.allow(FREE)
    guard = machine.folder / "fleet-only"
    guard.write_text(FLEET_ONLY)
    guard.chmod(0o755)
    documented = (ROOT / "docs" / "ssh.md").read_text()
    keys = machine.folder / "authorized_keys"
    before = keys.read_text()
    options = 'restrict,from="{}",command="/usr/local/bin/fleet-only" '
    release = tmp_path / "nginx"
    release.write_bytes(CONTENT)
    task = a_task(host, Ask.STAGE, release=release)
    try:
        keys.write_text(options.format("192.0.2.10").replace("/usr/local/bin/fleet-only", str(guard)) + before)
        elsewhere = visit(task, Heard(), {})
        keys.write_text(options.format("127.0.0.1").replace("/usr/local/bin/fleet-only", str(guard)) + before)
        outcome = visit(task, Heard(), stub(tmp_path, STAGES))
        others = [
            subprocess.run([*machine.ssh(), *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)
            for words in (["id"], ["-s", "sftp"], ["exec /bin/sh"], ["-W", f"127.0.0.1:{machine.sshd.port}"], [])
        ]
    finally:
        keys.write_text(before)

    assert FLEET_ONLY in documented
    assert options.format("192.0.2.10") in documented
    assert elsewhere.reason == "auth_failed"
    assert of(outcome) == (Outcome.DONE, None)
    assert outcome.message == hashlib.sha256(CONTENT).hexdigest()
    assert [ran.returncode for ran in others] == [1, 1, 1, 255, 1]
    assert [ran.stdout for ran in others] == [""] * 5
