"""A visit ends in an outcome whatever the host does, which says whether anything can have happened there."""

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import paramiko
import pytest

from fleet.events import Event, EventType
from fleet.host import Host
from fleet.onhost.protocol import Ask, Goal, Options, Outcome, Phase, Probe, Rest, Severity, Step
from fleet.ssh import one_request as one_request_module
from fleet.ssh.delivery.bundle import GENERIC, build
from fleet.ssh.remote import command as command_module
from fleet.ssh.remote.command import MAX_REPLIES
from fleet.ssh.transport.connection import Link
from fleet.ssh.visit import cut_all, forget_stop, request_stop, visit
from fleet.task import Connecting, HostOutcome
from tests.support.private_nginx import wait_until
from tests.support.ssh.clocks import HandClock, RunningClock
from tests.support.ssh.server import Proxy, Sshd, make_key, sshd
from tests.support.ssh.stubs import FINE, TARGET, Heard, a_task, of, stub

ECHO = "end(message=repr((request.ask.value, request.rollout, request.operator, request.layout.state_dir)))"
# Reads the beats after the request until it reads `stop`.
UNTIL_STOP = """
say(ReplyType.STEP_STARTED, step=Step.LAUNCH)
for line in sys.stdin:
    if line.strip() == STOP:
        end(Outcome.FAILED, reason="interrupted")
        break
"""
AS_NOBODY = 'ForceCommand exec setpriv --reuid=65534 --clear-groups {path}/bin/sh -c "$SSH_ORIGINAL_COMMAND"'
NOISY = 'ForceCommand echo "Welcome!"; echo fleet; printf "no newline"; exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"'


def set_clock(monkeypatch: pytest.MonkeyPatch, module: ModuleType, clock: HandClock) -> None:
    """The module reads this clock from now on."""
    monkeypatch.setattr(module, "time", clock)


# Events


def test_a_visit_sends_events_from_its_start_to_its_end(fresh: Host, tmp_path: Path) -> None:
    heard = Heard()

    outcome = visit(a_task(fresh), heard, stub(tmp_path, FINE))

    assert of(outcome) == (Outcome.DONE, None)
    assert heard.types == [
        EventType.VISIT_STARTED,
        EventType.STEP_STARTED,
        EventType.STEP_ENDED,
        EventType.FINDING,
        EventType.VISIT_ENDED,
    ]
    ended = heard.events[2]
    assert (ended.step, ended.outcome, ended.message, ended.took_s) == (Step.SWAP, Outcome.DONE, "swapped", 0.25)
    assert {(event.host, event.rollout, event.batch) for event in heard.events} == {("web-01", "r-1", 1)}
    assert all(event.at.tzinfo is not None for event in heard.events)
    assert heard.events[3].data == {"remedy": "r", "severity": "warning", "overridable": True}
    assert [(finding.reason, finding.severity) for finding in outcome.findings] == [("package_owned", Severity.WARNING)]
    assert outcome.took_s > 0


def test_the_request_arrives_as_it_was_made(fresh: Host, tmp_path: Path) -> None:
    outcome = visit(a_task(fresh, Ask.BAKE), Heard(), stub(tmp_path, ECHO))

    assert outcome.message == repr(("bake", "r-1", "ann@laptop", fresh.layout.state_dir))


def test_the_real_step_script_looks_at_a_real_machine(fresh: Host) -> None:
    outcome = visit(a_task(fresh), Heard())

    assert of(outcome) == (Outcome.DONE, None)
    assert outcome.report is not None
    assert isinstance(outcome.report.phase, Phase)


def test_a_visit_is_plain_data_that_another_process_can_carry_out(fresh: Host, tmp_path: Path) -> None:
    """`id` is a sink that pickles; the events of another process are its engine's business."""
    sink: Any = id
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        outcome = pool.submit(visit, a_task(fresh), sink, stub(tmp_path, FINE)).result()

    assert of(outcome) == (Outcome.DONE, None)


# What the host is like


def test_a_noisy_login_is_passed_over(tmp_path: Path) -> None:
    with sshd(tmp_path, NOISY) as noisy:
        assert of(visit(a_task(noisy.host), Heard(), stub(tmp_path, FINE))) == (Outcome.DONE, None)


def test_a_login_shell_that_runs_nothing_is_refused(tmp_path: Path) -> None:
    with sshd(tmp_path, "ForceCommand /usr/sbin/nologin") as running:
        outcome = visit(a_task(running.host), Heard(), stub(tmp_path, FINE))

    assert of(outcome) == (Outcome.REFUSED, "no_shell")


def test_a_login_that_is_not_root_is_refused_with_the_line_that_helps(tmp_path: Path) -> None:
    with sshd(tmp_path, AS_NOBODY.format(path="")) as running:
        outcome = visit(a_task(running.host), Heard(), stub(tmp_path, FINE))

    assert of(outcome) == (Outcome.REFUSED, "not_root")
    assert "ansible_become: true" in outcome.remedy
    assert "nobody ALL=(root) NOPASSWD: /bin/sh" in outcome.remedy


def test_a_host_without_sudo_is_refused(tmp_path: Path) -> None:
    with sshd(tmp_path, AS_NOBODY.format(path="env PATH=/usr/bin/nothing ").replace("PATH=", "-i PATH=")) as running:
        outcome = visit(a_task(replace(running.host, become=True)), Heard(), stub(tmp_path, FINE))

    assert of(outcome) == (Outcome.REFUSED, "sudo_missing")


@pytest.fixture
def refusing_sudo() -> Iterator[Path]:
    """A world-readable folder with a stand-in that prints and returns what sudo does without its setuid bit."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "sudo").write_text("#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
        (folder / "sudo").chmod(0o755)
        yield folder


def test_a_sudo_that_asks_for_a_password_is_refused_in_its_own_words(tmp_path: Path, refusing_sudo: Path) -> None:
    with sshd(tmp_path, AS_NOBODY.format(path=f"env PATH={refusing_sudo}:/usr/bin:/bin ")) as running:
        outcome = visit(a_task(replace(running.host, become=True)), Heard(), stub(tmp_path, FINE))

    assert of(outcome) == (Outcome.REFUSED, "sudo_password")
    assert "a password is required" in outcome.message
    assert "NOPASSWD" in outcome.remedy


def test_a_root_login_needs_no_sudo_even_where_the_inventory_asks_for_it(fresh: Host, tmp_path: Path) -> None:
    assert of(visit(a_task(replace(fresh, become=True)), Heard(), stub(tmp_path, FINE))) == (Outcome.DONE, None)


@pytest.mark.parametrize(
    ("python", "reason"), [("/no/python3", "python_missing"), ("/bin/false", "python_old")], ids=["none", "broken"]
)
def test_a_python_that_is_not_there_is_refused(fresh: Host, tmp_path: Path, python: str, reason: str) -> None:
    outcome = visit(a_task(replace(fresh, python=python)), Heard(), stub(tmp_path, FINE))

    assert of(outcome) == (Outcome.REFUSED, reason)
    assert "ansible_python_interpreter" in outcome.remedy


def test_a_python_that_is_too_old_is_named(fresh: Host, tmp_path: Path) -> None:
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\necho 3 5\n")
    old.chmod(0o755)

    outcome = visit(a_task(replace(fresh, python=str(old))), Heard(), stub(tmp_path, FINE))

    assert of(outcome) == (Outcome.REFUSED, "python_old")
    assert f"{old} (3 5)" in outcome.message


# Failures


def test_a_host_that_is_not_reached_was_not_changed(fresh: Host, tmp_path: Path) -> None:
    heard = Heard()
    host = replace(fresh, key_files=(str(make_key(tmp_path / "other")),))

    outcome = visit(a_task(host), heard, stub(tmp_path, FINE))

    assert of(outcome) == (Outcome.UNREACHABLE, "auth_failed")
    assert heard.types == [EventType.VISIT_STARTED, EventType.VISIT_ENDED]
    assert heard.events[-1].data["remedy"] == outcome.remedy != ""


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("say(ReplyType.OUTCOME, outcome=Outcome.DONE)", "script_died"),
        ("print(END_MARK)", "garbled"),
        ("raise RuntimeError('it broke')", "script_died"),
        ("import os; os.kill(os.getpid(), 9)", "script_died"),
        ("print('{}')", "garbled"),
        (r"sys.stdout.buffer.write(b'\xff\xfe\x00\n')", "garbled"),
        ("print('[' * 200000)", "garbled"),
        ("print(encode(Reply(ReplyType.OUTCOME, outcome=Outcome.DONE)).replace('done', 'unreachable'))", "garbled"),
        ("sys.stdout.write('x' * (3 << 20)); sys.stdout.flush()", "too_much_output"),
        ("while True: print(encode(Reply(ReplyType.HELLO)))", "too_much_output"),
        ("while True: sys.stderr.write('x' * 65536)", "too_much_output"),
    ],
)
def test_an_answer_without_a_proper_end_is_a_lost_link(fresh: Host, tmp_path: Path, body: str, reason: str) -> None:
    outcome = visit(a_task(fresh), Heard(), stub(tmp_path, body))

    assert of(outcome) == (Outcome.LINK_LOST, reason)
    assert outcome.remedy


def test_the_stderr_of_a_dying_script_is_reported(fresh: Host, tmp_path: Path) -> None:
    outcome = visit(a_task(fresh), Heard(), stub(tmp_path, "raise RuntimeError('it broke')"))

    assert "RuntimeError: it broke" in outcome.message


def test_nothing_that_a_host_says_controls_the_terminal(fresh: Host, tmp_path: Path) -> None:
    heard = Heard()
    evil = r"'\x1b[2J\x07\u202eevil\r\nline\x9b'"
    body = f"say(ReplyType.STEP_ENDED, step=Step.SWAP, message={evil}, took_s=1.0)\nend(message={evil})"

    outcome = visit(a_task(fresh), heard, stub(tmp_path, body))

    assert outcome.message.isprintable()
    assert "evil" in outcome.message
    assert all(event.message.isprintable() for event in heard.events)


@pytest.mark.parametrize(
    "number", ["float('nan')", "float('-inf')", "1e300", "10**400", "int('9' * 4300)"], ids=lambda number: number[:9]
)
@pytest.mark.parametrize("field", ["took_s", "protocol"])
def test_an_absurd_number_is_garbled(fresh: Host, tmp_path: Path, field: str, number: str) -> None:
    body = f"print(encode(Reply(ReplyType.STEP_ENDED, step=Step.SWAP)._replace({field}={number})), flush=True)\nend()"

    outcome = visit(a_task(fresh), Heard(), stub(tmp_path, body))

    assert of(outcome) == (Outcome.LINK_LOST, "garbled")


def test_an_absurd_list_is_garbled(fresh: Host, tmp_path: Path) -> None:
    report = "Report(Phase.OLD, (), None, None, None, None, False, None, 0, orphans=tuple(range(20000)))"

    outcome = visit(a_task(fresh), Heard(), stub(tmp_path, f"end(report={report})"))

    assert of(outcome) == (Outcome.LINK_LOST, "garbled")


@pytest.mark.parametrize("kind", ["finding", "outcome"])
def test_a_host_cannot_report_a_reason_of_the_link(fresh: Host, tmp_path: Path, kind: str) -> None:
    """It would be shown in the frame of a changed key, with a remedy for another host."""
    lie = "reason='host_key_changed', message='the key of db-01 has changed: ssh-keygen -R db-01'"
    heard = Heard()
    body = {"finding": f"say(ReplyType.FINDING, {lie})\nend()", "outcome": f"end(Outcome.REFUSED, {lie})"}[kind]

    outcome = visit(a_task(fresh), heard, stub(tmp_path, body))

    assert of(outcome) == (Outcome.LINK_LOST, "garbled")
    assert "db-01" not in outcome.message
    assert [event.reason for event in heard.events if event.reason] == ["garbled"]


def test_a_silent_script_is_not_reported_as_a_dead_link(
    fresh: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_clock(monkeypatch, command_module, RunningClock((tmp_path / "silent").exists, step_s=20))
    body = f"open('{tmp_path}/silent', 'w').close(); time.sleep(60)"

    outcome = visit(a_task(fresh), Heard(), stub(tmp_path, body))

    assert of(outcome) == (Outcome.LINK_LOST, "silent")


@pytest.mark.parametrize(
    "dribble",
    ["sys.stderr.write('x'); sys.stderr.flush()", "say(ReplyType.HELLO)", "print(flush=True)"],
    ids=["complaints", "greetings", "nothing"],
)
def test_output_without_progress_counts_as_silence(
    fresh: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dribble: str
) -> None:
    set_clock(monkeypatch, command_module, RunningClock((tmp_path / "dribbles").exists, step_s=5))
    body = f"open('{tmp_path}/dribbles', 'w').close()\nfor _ in range(600):\n    {dribble}; time.sleep(0.1)"

    outcome = visit(a_task(fresh), Heard(), stub(tmp_path, body))

    assert of(outcome) == (Outcome.LINK_LOST, "silent")


def test_a_script_that_makes_progress_may_take_longer_than_one_pause(
    fresh: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step takes 20 s and the longest pause is 30 s; the next step begins when fleet has the reply of this one."""
    steps = 6
    clock = HandClock()
    monkeypatch.setattr(clock, "monotonic", lambda: 20.0 * len(list(tmp_path.glob("step-*"))))
    set_clock(monkeypatch, command_module, clock)
    body = f"""
import os
for n in range({steps}):
    open('{tmp_path}/step-%d' % n, 'w').close()
    say(ReplyType.STEP_STARTED, step=Step.SWAP)
    while not os.path.exists('{tmp_path}/heard-%d' % n):
        time.sleep(0.01)
end()
"""
    heard: list[Event] = []

    def hear(event: Event) -> None:
        if event.type is EventType.STEP_STARTED:
            (tmp_path / f"heard-{len(heard)}").touch()
            heard.append(event)

    assert of(visit(a_task(fresh), hear, stub(tmp_path, body))) == (Outcome.DONE, None)
    assert len(heard) == steps


def test_a_script_that_never_ends_is_given_up(fresh: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, one_request_module, RunningClock((tmp_path / "begun").exists, step_s=20))
    say = "say(ReplyType.STEP_STARTED, step=Step.SWAP)"
    body = f"open('{tmp_path}/begun', 'w').close()\nfor _ in range(600):\n    {say}; time.sleep(0.1)"

    outcome = visit(a_task(fresh), Heard(), stub(tmp_path, body))

    assert of(outcome) == (Outcome.LINK_LOST, "endless")


@pytest.mark.parametrize(
    ("goal", "options"),
    [
        (Goal(TARGET, Rest.FINAL), Options(drain_timeout_s=30)),
        (Goal(TARGET, Rest.HELD), Options(settle_s=30)),
        (Goal(TARGET, Rest.HELD), Options(probes=(Probe("http://127.0.0.1/", timeout_s=8),))),
    ],
    ids=["drain", "settle", "probe"],
)
def test_a_step_may_be_silent_as_long_as_the_operator_lets_it_wait(
    fresh: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, goal: Goal, options: Options
) -> None:
    """The script is silent for 50 s: longer than `silence_s`, within the wait that the options allow. A beat a second shows
    it that fleet waits."""
    silent = tmp_path / "silent"
    clock = HandClock()
    monkeypatch.setattr(clock, "monotonic", lambda: 50.0 if silent.exists() else 0.0)
    set_clock(monkeypatch, command_module, clock)
    task = a_task(fresh)
    request = task.request._replace(goal=goal, options=options, allowed=(Step.RETIRE,))
    body = f"""
sys.stdin.readline()
open('{silent}', 'w').close()
for _ in range(2):
    sys.stdin.readline()
end()
"""

    outcome = visit(replace(task, request=request), Heard(), stub(tmp_path, body))

    assert of(outcome) == (Outcome.DONE, None)


@pytest.mark.parametrize(
    "asked",
    ["*fleet.pyz*", "*eval*"],
    ids=["script", "bundle"],
)
def test_a_login_that_prints_and_does_not_begin_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    """Before the begin only the time counts, whatever the login prints."""
    set_clock(monkeypatch, command_module, RunningClock((tmp_path / "dribbles").exists, step_s=5))
    dribble = f"touch {tmp_path}/dribbles; for i in $(seq 600); do echo waiting; echo waiting >&2; sleep 0.1; done"
    force = f'ForceCommand c="$SSH_ORIGINAL_COMMAND"; case "$c" in {asked}) {dribble};; esac; exec /bin/sh -c "$c"'
    release = tmp_path / "nginx"
    release.write_text("the bytes")
    missing = "import os\nos.makedirs(request.layout.state_dir + '/releases/' + request.goal.target)\n"
    with sshd(tmp_path, force) as dribbling:
        task = replace(a_task(dribbling.host, Ask.STAGE, release=release), connecting=Connecting(transfer="exec"))

        outcome = visit(task, Heard(), stub(tmp_path, missing + "end(Outcome.REFUSED, reason='release_missing')"))

    assert of(outcome) == (Outcome.UNREACHABLE, "silent")


@pytest.mark.parametrize("kind", ["FINDING", "STEP_STARTED", "OUTCOME"])
def test_the_number_of_replies_is_limited(fresh: Host, tmp_path: Path, kind: str) -> None:
    """Each reply may be an event, and each event is written to the disk before the next one."""
    body = f"for n in range({MAX_REPLIES}):\n    say(ReplyType.{kind}, message='m', outcome=Outcome.DONE)\nend()"
    heard = Heard()

    outcome = visit(a_task(fresh), heard, stub(tmp_path, body))

    assert of(outcome) == (Outcome.LINK_LOST, "too_much_output")
    assert len(heard.events) <= MAX_REPLIES + 2


def test_a_link_cut_before_the_request_is_reported_as_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sshd ends the commands of a connection first, and the connection looks alive until all have ended: here until fleet
    has sent a keepalive."""
    unlink = paramiko.Channel._unlink  # type: ignore[attr-defined]  # the stubs lack it
    check_alive = Link.check_alive
    checks = threading.Event()

    def unhurried(channel: paramiko.Channel) -> None:
        unlink(channel)
        checks.wait(60)

    def check(link: Link) -> None:
        checks.set()
        check_alive(link)

    monkeypatch.setattr(paramiko.Channel, "_unlink", unhurried)
    monkeypatch.setattr(Link, "check_alive", check)
    with sshd(tmp_path, "ForceCommand kill -9 $PPID; sleep 1") as cutting:
        outcome = visit(a_task(cutting.host), Heard(), stub(tmp_path, FINE))

    assert checks.is_set()
    assert of(outcome) == (Outcome.UNREACHABLE, "link_lost")


def test_a_killed_login_is_not_reported_as_a_lost_link(tmp_path: Path) -> None:
    with sshd(tmp_path, "ForceCommand kill -9 $$") as running:
        outcome = visit(a_task(running.host), Heard(), stub(tmp_path, FINE))

    assert of(outcome) == (Outcome.REFUSED, "no_shell")


def test_a_link_that_freezes_in_a_step_is_lost(
    server: Sshd, fresh: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = threading.Event()
    set_clock(monkeypatch, command_module, RunningClock(frozen.is_set, step_s=5))
    with Proxy(server.port) as proxy:
        server.know("[127.0.0.1]:* {key}")

        def freeze(event: Event) -> None:
            if event.type is EventType.STEP_STARTED:
                proxy.freeze()
                monkeypatch.setattr(Link, "alive_timeout_s", 1.0)
                frozen.set()

        outcome = visit(a_task(proxy.before(fresh)), freeze, stub(tmp_path, UNTIL_STOP))

    assert of(outcome) == (Outcome.LINK_LOST, "no_answer")


# Turning back


def test_a_script_hears_beat_after_beat(fresh: Host, tmp_path: Path) -> None:
    body = """
end(message=" ".join(sys.stdin.readline().strip() for _ in range(3)))
"""

    assert visit(a_task(fresh), Heard(), stub(tmp_path, body)).message == "beat beat beat"


def test_a_stop_reaches_the_visits_of_that_rollout(fresh: Host, tmp_path: Path) -> None:
    def turn_back(event: Event) -> None:
        if event.type is EventType.STEP_STARTED:
            request_stop("r-stop")

    available = stub(tmp_path, UNTIL_STOP)
    outcome = visit(a_task(fresh, rollout="r-stop"), turn_back, available)
    later = visit(a_task(fresh, rollout="r-stop"), Heard(), available)
    forget_stop("r-stop")

    assert of(outcome) == (Outcome.FAILED, "interrupted")
    assert of(later) == (Outcome.REFUSED, "stopped")


def test_a_stop_ends_the_upload_of_the_step_script(
    fresh: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At this rate it would take ten minutes."""
    available = {GENERIC: build(GENERIC, tmp_path, {"padding": os.urandom(600_000)})}
    task = replace(a_task(fresh, rollout="r-stop"), connecting=Connecting(limit_rate=1000.0))
    ended: list[HostOutcome] = []
    visiting = threading.Thread(target=lambda: ended.append(visit(task, Heard(), available)), daemon=True)
    visiting.start()
    parts = Path(fresh.layout.state_dir)
    wait_until(lambda: any(parts.glob("bundles/*/*.part.*")), "the upload has begun")
    request_stop("r-stop")
    visiting.join(60)
    forget_stop("r-stop")

    assert [of(outcome) for outcome in ended] == [(Outcome.REFUSED, "stopped")]


def test_a_stop_does_not_wait_for_a_login_that_is_slow_to_begin(tmp_path: Path) -> None:
    ended: list[HostOutcome] = []
    (tmp_path / "login.sh").write_text(f"touch {tmp_path}/begun; exec sleep 50\n")
    with sshd(tmp_path, f"ForceCommand /bin/sh {tmp_path}/login.sh") as sleepy:
        task = a_task(sleepy.host, rollout="r-stop")
        visiting = threading.Thread(
            target=lambda: ended.append(visit(task, Heard(), stub(tmp_path, FINE))), daemon=True
        )
        visiting.start()
        wait_until((tmp_path / "begun").exists, "the login has begun")
        request_stop("r-stop")
        visiting.join(30)
    forget_stop("r-stop")

    assert [of(outcome) for outcome in ended] == [(Outcome.REFUSED, "stopped")]


def test_a_stop_does_not_reach_another_rollout(fresh: Host, tmp_path: Path) -> None:
    request_stop("r-other")

    outcome = visit(a_task(fresh), Heard(), stub(tmp_path, FINE))
    forget_stop("r-other")

    assert of(outcome) == (Outcome.DONE, None)


def test_cutting_off_ends_all_running_visits_at_once(fresh: Host, tmp_path: Path) -> None:
    begun = threading.Barrier(3)
    ended: list[HostOutcome] = []

    def wait_for_all(event: Event) -> None:
        if event.type is EventType.STEP_STARTED:
            begun.wait()

    available = stub(tmp_path, UNTIL_STOP)
    threads = [
        threading.Thread(target=lambda: ended.append(visit(a_task(fresh), wait_for_all, available))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    begun.wait()
    cut_all()
    for thread in threads:
        thread.join()

    assert [of(outcome) for outcome in ended] == [(Outcome.LINK_LOST, "link_lost")] * 2
