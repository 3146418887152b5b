"""Visits to one host share one login and one step script, and a conversation that was lost is opened again."""

import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.host import Host
from fleet.onhost.protocol import Ask, Goal, Outcome, Rest, Step
from fleet.ssh import conversation as conversation_module
from fleet.ssh import kept_open as kept_open_module
from fleet.ssh.kept_open import KEPT_OPEN
from fleet.ssh.visit import close_kept, cut_all, visit
from fleet.task import Connecting, HostOutcome, HostTask
from tests.support.private_nginx import wait_until
from tests.support.ssh.server import Proxy, Sshd, sshd
from tests.support.ssh.stubs import QUICK, Heard, a_task, of, stub

KEEPS = Connecting(keep_open=2)
# Answers each request with its own pid and the number of the request. `more` is run before each answer.
ANSWERS = """
import os
count = 0
while True:
    count += 1
    {more}
    end(message="%d %d" % (os.getpid(), count))
    for line in sys.stdin.buffer:
        word = line.decode().strip()
        if word == BEAT:
            if over:
                say(ReplyType.HELLO)
        elif word == OVER:
            over = True
        else:
            request = decode(Request, word)
            break
    else:
        break
    over = False
"""


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    close_kept()


def answering(folder: Path, more: str = "pass") -> Callable[[HostTask], HostOutcome]:
    """Visits to step scripts that answer with their pid and the number of the request."""
    available = stub(folder, "over = False\n" + ANSWERS.format(more=more))
    return lambda task: visit(task, Heard(), available)


def keeping(host: Host, ask: Ask = Ask.LOOK, connecting: Connecting = KEEPS) -> HostTask:
    return replace(a_task(host, ask), connecting=connecting)


def answer(outcome: HostOutcome) -> tuple[int, int]:
    """The pid of the step script, and which of its requests it was."""
    assert of(outcome) == (Outcome.DONE, None), outcome
    pid, count = outcome.message.split()
    return int(pid), int(count)


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_visits_to_one_host_share_a_step_script(fresh: Host, tmp_path: Path) -> None:
    visit_it = answering(tmp_path)

    answers = [answer(visit_it(keeping(fresh, ask))) for ask in (Ask.STAGE, Ask.COMMIT, Ask.BAKE)]

    assert [count for _, count in answers] == [1, 2, 3]
    assert len({pid for pid, _ in answers}) == 1


def test_nothing_is_kept_unless_it_is_allowed(fresh: Host, tmp_path: Path) -> None:
    visit_it = answering(tmp_path)

    first, second = (answer(visit_it(a_task(fresh))) for _ in range(2))

    assert (first[1], second[1]) == (1, 1)
    wait_until(lambda: is_gone(first[0]) and is_gone(second[0]), "the scripts have ended")


def test_a_conversation_for_which_there_is_no_room_is_closed(fresh: Host, tmp_path: Path) -> None:
    """A rollout visits its hosts in the same order again and again."""
    visit_it = answering(tmp_path)
    hosts = [replace(fresh, name=name) for name in ("a", "b", "c")]

    first = [answer(visit_it(keeping(host))) for host in hosts]
    second = [answer(visit_it(keeping(host))) for host in hosts]

    assert [(pid, count + 1) for pid, count in first[:2]] == second[:2]
    assert second[2][1] == 1
    wait_until(lambda: is_gone(first[2][0]) and is_gone(second[2][0]), "the third host's scripts have ended")


def test_a_conversation_that_nobody_used_for_long_makes_room(
    fresh: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_open_module, "STALE_S", 0.0)
    visit_it = answering(tmp_path)
    hosts = [replace(fresh, name=name) for name in ("a", "b", "c")]

    pids = [answer(visit_it(keeping(host)))[0] for host in hosts]

    wait_until(lambda: is_gone(pids[0]), "the first script has ended")
    assert [answer(visit_it(keeping(host))) for host in hosts[1:]] == [(pids[1], 2), (pids[2], 2)]


def test_the_end_of_the_run_ends_the_scripts(fresh: Host, tmp_path: Path) -> None:
    pid, _ = answer(answering(tmp_path)(keeping(fresh)))

    close_kept()

    wait_until(lambda: is_gone(pid), "the script has ended")


def test_another_way_to_connect_is_another_conversation(fresh: Host, tmp_path: Path) -> None:
    visit_it = answering(tmp_path)

    first = answer(visit_it(keeping(fresh)))
    second = answer(visit_it(keeping(fresh, connecting=replace(KEEPS, ssh_config="none"))))

    assert first[0] != second[0]


def test_a_script_that_has_ended_is_replaced_before_anything_is_sent(fresh: Host, tmp_path: Path) -> None:
    visit_it = answering(tmp_path, more=f"if count == 2: open('{tmp_path}/second', 'w')")
    pid, _ = answer(visit_it(keeping(fresh)))
    os.kill(pid, signal.SIGKILL)

    again = answer(visit_it(keeping(fresh, Ask.COMMIT)))

    assert (again[0] != pid, again[1]) == (True, 1)
    assert not (tmp_path / "second").exists()


def test_a_script_that_hangs_while_it_is_kept_is_replaced(
    fresh: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visit_it = answering(tmp_path)
    pid, _ = answer(visit_it(keeping(fresh)))
    os.kill(pid, signal.SIGSTOP)
    try:
        monkeypatch.setattr(conversation_module, "READY_S", 1.0)
        again = answer(visit_it(keeping(fresh, Ask.COMMIT)))
    finally:
        os.kill(pid, signal.SIGKILL)

    assert (again[0] != pid, again[1]) == (True, 1)


@pytest.mark.parametrize("how", ["frozen", "cut"])
def test_a_link_that_was_lost_while_it_was_kept_is_opened_again(
    server: Sshd, fresh: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(conversation_module, "READY_S", 1.0)
    server.know("[127.0.0.1]:* {key}")
    visit_it = answering(tmp_path)
    with Proxy(server.port) as proxy:
        there = proxy.before(fresh)
        first = answer(visit_it(keeping(there)))
        if how == "frozen":
            proxy.freeze_open()
        else:
            proxy.cut()
        second = answer(visit_it(keeping(there)))

    assert (second[0] != first[0], second[1]) == (True, 1)


def test_a_conversation_that_was_kept_too_long_is_not_used(
    fresh: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visit_it = answering(tmp_path)
    answer(visit_it(keeping(fresh)))
    monkeypatch.setattr(conversation_module, "KEPT_S", -1.0)

    assert answer(visit_it(keeping(fresh)))[1] == 1


def test_a_second_ctrl_c_closes_what_is_kept(fresh: Host, tmp_path: Path) -> None:
    pid, _ = answer(answering(tmp_path)(keeping(fresh)))

    cut_all()

    wait_until(lambda: is_gone(pid), "the script has ended")


def test_an_answer_that_is_no_good_ends_the_conversation(fresh: Host, tmp_path: Path) -> None:
    available = stub(tmp_path, "say(ReplyType.OUTCOME)")

    assert of(visit(keeping(fresh), Heard(), available)) == (Outcome.LINK_LOST, "garbled")
    assert KEPT_OPEN.take((fresh, KEEPS)) is None


def test_an_sshd_that_closes_idle_connections_costs_a_login(tmp_path: Path) -> None:
    visit_it = answering(tmp_path)
    with sshd(tmp_path, "ChannelTimeout session:command=10s") as strict:
        host = replace(strict.host, layout=strict.host.layout._replace(state_dir=str(tmp_path / "state")))
        first = answer(visit_it(keeping(host)))
        wait_until(lambda: is_gone(first[0]), "sshd has closed the channel")
        second = answer(visit_it(keeping(host)))

    assert (second[0] != first[0], second[1]) == (True, 1)


def test_a_quiet_conversation_outlives_an_sshd_that_asks_whether_it_is_there(tmp_path: Path) -> None:
    visit_it = answering(tmp_path)
    with sshd(tmp_path, "ClientAliveInterval 1", "ClientAliveCountMax 1") as strict:
        host = replace(strict.host, layout=strict.host.layout._replace(state_dir=str(tmp_path / "state")))
        first = answer(visit_it(keeping(host)))
        time.sleep(3.0)  # longer than sshd waits for an answer
        assert answer(visit_it(keeping(host))) == (first[0], 2)


def test_the_real_step_script_answers_twice(fresh: Host) -> None:
    outcomes = [visit(keeping(fresh), Heard()) for _ in range(2)]

    assert [of(each) for each in outcomes] == [(Outcome.DONE, None)] * 2
    assert all(each.report is not None for each in outcomes)


def test_the_real_step_script_is_brought_a_release_and_answers_on(fresh: Host, tmp_path: Path) -> None:
    content = os.urandom(3 << 20)
    (tmp_path / "nginx").write_bytes(content)
    target = hashlib.sha256(content).hexdigest()
    task = keeping(fresh, Ask.STAGE)
    request = task.request._replace(goal=Goal(target, Rest.HELD), allowed=(Step.STAGE,), release_bytes=len(content))
    heard = Heard()

    visit(replace(task, request=request, release_path=str(tmp_path / "nginx"), deadlines=QUICK), heard)

    stored = Path(fresh.layout.state_dir) / "releases" / target / "nginx"
    assert stored.read_bytes() == content
    assert sorted(path.name for path in stored.parent.iterdir()) == ["nginx"]
    assert of(visit(keeping(fresh), Heard())) == (Outcome.DONE, None)
