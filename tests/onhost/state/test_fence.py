"""Which run may work on a host: epochs only rise, and claims expire."""

from pathlib import Path

import pytest

from fleet.onhost.protocol import MAY_DO, PROTOCOL, Ask, Layout, Request, Sender, State
from fleet.onhost.state.fence import Claimed, TakenOver, check, claim, claim_of, release
from fleet.onhost.state.store import InstanceStore, Store
from fleet.onhost.system.machine import Machine
from tests.onhost.state.test_store import a_record

HERE, THERE = Sender("journal-1", "desk", 71), Sender("journal-2", "sofa", 72)


class Clock(Machine):
    """A host whose clock and boot are moved by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.boot = "boot-1"

    def boottime_s(self) -> float:
        return self.now_s

    def boot_id(self) -> str:
        return self.boot


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def own(clock: Clock, tmp_path: Path) -> InstanceStore:
    return Store(clock, str(tmp_path / "state")).instance(str(tmp_path / "nginx.pid"))


def a_request(
    rollout: str = "r1",
    epoch: int = 1,
    *,
    take_over: bool = False,
    operator: str = "ada",
    sender: Sender = HERE,
    claim_s: float = 60.0,
    reopen: bool = False,
    force: bool = False,
) -> Request:
    ask = Ask.ROLLBACK if take_over else Ask.UPGRADE
    plain = Request(PROTOCOL, ask, rollout, epoch, operator, None, MAY_DO[ask], Layout(), take_over=take_over)
    return plain._replace(sender=sender, claim_s=claim_s, reopen=reopen, force=force)


def test_a_lower_epoch_is_refused_with_the_name_of_the_holder(own: InstanceStore) -> None:
    claim(own, a_request("r2", 5, operator="grace"))

    with pytest.raises(TakenOver, match="grace"):
        claim(own, a_request("r1", 4))


def test_the_same_epoch_of_another_rollout_is_refused(own: InstanceStore) -> None:
    claim(own, a_request("r2", 5))

    with pytest.raises(TakenOver):
        claim(own, a_request("r1", 5))


def test_a_rollback_takes_over_whatever_its_epoch_and_its_rollout_never_begins_again(own: InstanceStore) -> None:
    """Also on a host that had not begun, whatever the two laptops' numbers say."""
    claim(own, a_request("r1", 7))

    taken = claim(own, a_request("r1", 0, take_over=True))

    assert taken == 8
    for epoch in (7, 8, 99):
        with pytest.raises(TakenOver, match="rolled back"):
            claim(own, a_request("r1", epoch))


def test_a_rollback_of_another_rollout_does_not_lock_out_the_one_in_force(own: InstanceStore) -> None:
    """It only marks its own as undone here; the run that holds this host may still commit."""
    epoch = claim(own, a_request("r2", 7))
    own.begin(a_record("r2"))

    assert claim(own, a_request("r1", 0, take_over=True)) is None

    check(own, "r2", epoch or 0)
    assert claim(own, a_request("r2", 7)) == 7
    with pytest.raises(TakenOver, match="rolled back"):
        claim(own, a_request("r1", 99))


def test_a_running_visit_sees_that_it_was_taken_over(own: InstanceStore) -> None:
    epoch = claim(own, a_request("r1", 7))
    check(own, "r1", epoch or 0)

    claim(own, a_request("r1", 0, take_over=True))

    with pytest.raises(TakenOver):
        check(own, "r1", epoch or 0)


def test_a_new_rollout_begins_after_one_was_undone(own: InstanceStore) -> None:
    claim(own, a_request("r1", 7))
    claim(own, a_request("r1", 0, take_over=True))

    assert claim(own, a_request("r2", 9)) == 9


def test_a_resume_of_a_higher_epoch_reopens_a_host_that_was_rolled_back(own: InstanceStore) -> None:
    """It had failed, or its lease ran out; what an operator took back stays so."""
    claim(own, a_request("r1", 7))
    own.begin(a_record("r1", State.ROLLED_BACK))
    claim(own, a_request("r1", 0, take_over=True))
    for epoch in (8, 9):
        with pytest.raises(TakenOver):
            claim(own, a_request("r1", epoch, reopen=True))

    own.begin(a_record("r1", State.ROLLED_BACK)._replace(why="it failed"))

    with pytest.raises(TakenOver):
        claim(own, a_request("r1", 8, reopen=True))

    assert claim(own, a_request("r1", 9, reopen=True)) == 9
    assert claim(own, a_request("r1", 9)) == 9


def test_a_run_of_another_journal_is_refused_with_the_name_of_the_running_one(own: InstanceStore) -> None:
    claim(own, a_request("r1", 1, operator="ada@desk"))

    with pytest.raises(Claimed, match=r"rollout r1 by ada@desk \(pid 71 on desk\)"):
        claim(own, a_request("r2", 2, sender=THERE))
    with pytest.raises(Claimed):
        release(own, a_request("r2", 2, sender=THERE))


def test_a_run_of_the_same_journal_is_not_kept_out(own: InstanceStore) -> None:
    """The journal's own lock keeps its runs apart; after a Ctrl-C the operator does not have to wait."""
    claim(own, a_request("r1", 1))

    assert claim(own, a_request("r2", 2)) == 2


def test_a_dead_holder_keeps_others_out_only_while_its_claim_lasts(own: InstanceStore, clock: Clock) -> None:
    claim(own, a_request("r1", 1, claim_s=60.0))
    clock.now_s += 59.9
    with pytest.raises(Claimed):
        claim(own, a_request("r2", 2, sender=THERE))

    clock.now_s += 0.2

    assert claim(own, a_request("r2", 2, sender=THERE)) == 2


def test_each_visit_renews_the_claim_and_keeps_its_beginning(own: InstanceStore, clock: Clock) -> None:
    claim(own, a_request("r1", 1))
    first = claim_of(own)
    clock.now_s += 50.0
    claim(own, a_request("r1", 1))
    again = claim_of(own)

    assert first is not None
    assert again is not None
    assert again.since == first.since
    assert again.until_s == first.until_s + 50.0


def test_a_reboot_voids_a_claim(own: InstanceStore, clock: Clock) -> None:
    claim(own, a_request("r1", 1))
    clock.boot = "boot-2"

    assert claim_of(own) is None


def test_a_claim_is_taken_by_force_or_given_up(own: InstanceStore) -> None:
    claim(own, a_request("r1", 1))
    assert claim(own, a_request("r2", 2, sender=THERE, force=True)) == 2

    release(own, a_request("r2", 2, sender=THERE))

    assert claim_of(own) is None
    assert claim(own, a_request("r3", 3)) == 3


def test_a_rollback_frees_a_host_that_its_rollout_had_claimed_and_not_begun(own: InstanceStore) -> None:
    own.begin(a_record("r0", State.COMMITTED))
    claim(own, a_request("r1", 1))

    assert claim(own, a_request("r1", 0, take_over=True, sender=THERE)) is None

    assert claim_of(own) is None


def test_a_rollback_does_not_wait_for_another_claim(own: InstanceStore) -> None:
    claim(own, a_request("r1", 1))

    assert claim(own, a_request("r1", 0, take_over=True, sender=THERE)) == 2
    found = claim_of(own)
    assert found is not None
    assert found.journal == "journal-2"
