"""A password is tried on one host before the others get it, and a host that hangs does not block the others."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Lock

import pytest

from fleet.ssh.auth import password_gate
from fleet.ssh.auth.password_gate import MAX_REFUSALS, PROVING_S, PasswordGate, PasswordWithheld
from tests.support.private_nginx import wait_until
from tests.support.ssh.clocks import HandClock

HOSTS = [f"web-{number:02}" for number in range(20)]


def given_to(gate: PasswordGate, right_at: set[str]) -> list[str]:
    """The hosts that got the password when all of them needed it at once. It is right for `right_at`."""
    given: list[str] = []
    lock, together = Lock(), Barrier(len(HOSTS))

    def want(host: str) -> None:
        together.wait()
        try:
            gate.enter(host)
        except PasswordWithheld:
            return
        with lock:
            given.append(host)
        gate.report(host, host, host in right_at)

    with ThreadPoolExecutor(len(HOSTS)) as pool:
        list(pool.map(want, HOSTS))
    return given


def test_a_wrong_password_reaches_two_of_many_hosts_that_need_it_at_once() -> None:
    gate = PasswordGate()

    given = given_to(gate, set())

    assert len(given) == MAX_REFUSALS
    with pytest.raises(PasswordWithheld) as caught:
        gate.enter("late")
    assert sorted(caught.value.refused_by) == sorted(given)


def test_a_right_password_reaches_all_hosts_except_one_that_refused_it() -> None:
    gate = PasswordGate()
    gate.enter("odd")
    gate.report("odd", "odd", False)

    assert sorted(given_to(gate, set(HOSTS))) == HOSTS
    with pytest.raises(PasswordWithheld) as caught:
        gate.enter("odd")
    assert caught.value.refused_by == ()


def test_a_lost_host_proves_nothing_about_the_password() -> None:
    gate = PasswordGate()
    for host in HOSTS:
        gate.enter(host)
        gate.report(host, host, None)

    assert len(given_to(gate, set())) == MAX_REFUSALS


def test_a_host_that_does_not_answer_does_not_block_the_others() -> None:
    gate = PasswordGate(proving_s=0.05)
    gate.enter("hangs")

    assert sorted(given_to(gate, set(HOSTS))) == HOSTS


def test_a_slow_directory_gets_the_password_from_one_host_in_each_proving_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each further host would count as a failed login, and lock the account."""
    clock = HandClock()
    monkeypatch.setattr(password_gate, "time", clock)
    gate = PasswordGate()
    given: list[str] = []

    def want(host: str) -> bool:
        try:
            gate.enter(host)
        except PasswordWithheld:
            return False
        given.append(host)
        return True

    with ThreadPoolExecutor(len(HOSTS)) as pool:
        wanting = [pool.submit(want, host) for host in HOSTS]
        try:
            wait_until(lambda: len(given) >= 1, "the first host gets it")
            clock.now_s += PROVING_S
            wait_until(lambda: len(given) >= 2, "the second host gets it")
        finally:
            for host in tuple(given):
                gate.report(host, host, False)

    assert len(given) == MAX_REFUSALS
    assert [future.result() for future in wanting].count(True) == MAX_REFUSALS


def test_a_visit_that_is_stopped_while_it_waits_does_not_get_the_password() -> None:
    gate = PasswordGate()
    gate.enter("slow")
    asked: list[None] = []

    def turned_back() -> None:
        asked.append(None)
        if len(asked) == 2:
            gate.report("slow", "slow", None)  # the queue is empty now
            raise InterruptedError

    with pytest.raises(InterruptedError):
        gate.enter("late", turned_back)

    assert sorted(given_to(gate, set(HOSTS))) == HOSTS


def test_several_hanging_hosts_do_not_block_the_others() -> None:
    gate = PasswordGate(proving_s=0.05, most_wait_s=0.15)
    for number in range(3):
        gate.enter(f"hangs-{number}")

    assert sorted(given_to(gate, set(HOSTS))) == HOSTS
