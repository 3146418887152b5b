"""`fleet resume`: which way a rollout goes on, by the journal or by the hosts alone, and when it is refused."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.journal.journal import Journal
from fleet.onhost.protocol import Ask, Phase, Step
from fleet.rollout.policy import CommitWhen, Policy
from fleet.task import HostTask
from tests.support.pretend.visits import NEW, UNREACHABLE, WENT_BACK, names
from tests.support.shell import QUICK, ROLLOUT, Shell, an_inventory

FIRST, SECOND = names(2)


def interrupting(shell: Shell, ask: Ask, host: str) -> Callable[[HostTask], None]:
    """Ctrl-C while this visit is under way, once."""
    heard: list[str] = []

    def meanwhile(task: HostTask) -> None:
        if (task.request.ask, task.host.name) == (ask, host) and not heard:
            heard.append(host)
            os.kill(os.getpid(), signal.SIGINT)

    return meanwhile


@pytest.fixture
def halfway(shell: Shell) -> Shell:
    """A rollout that was interrupted while its second batch was upgraded."""
    shell.fleet.meanwhile = interrupting(shell, Ask.UPGRADE, SECOND)
    assert shell("upgrade", NEW, "-y", *QUICK, "--batches", "1,1,2") == 130
    shell.fleet.calls.clear()
    shell.fleet.tasks.clear()
    return shell


def phases(shell: Shell) -> list[Phase]:
    return [host.phase() for host in shell.fleet.hosts.values()]


def steps_of(shell: Shell) -> dict[str, list[Step]]:
    """The steps that each host takes from now on."""
    found: dict[str, list[Step]] = {}
    for name, host in shell.fleet.hosts.items():
        host.watch = lambda taken, name=name: found.setdefault(name, []).append(taken.step)  # type: ignore[misc]
    return found


def policy_of_last_run(shell: Shell) -> Policy:
    with Journal.open(str(shell.journal)) as journal:
        return Policy.from_plain(journal.runs(ROLLOUT)[-1].facts["policy"])


def test_what_is_missing_is_done_and_nothing_else(halfway: Shell) -> None:
    assert phases(halfway) == [Phase.TRIAL, Phase.TRIAL, Phase.OLD, Phase.OLD]
    steps = steps_of(halfway)

    assert halfway("resume", "-y", "--parallel", "1") == 0

    assert phases(halfway) == [Phase.NEW] * 4
    assert {name: taken[0] for name, taken in steps.items()} == {
        **dict.fromkeys(names(2), Step.RETIRE),
        **dict.fromkeys(names(4)[2:], Step.SWAP),
    }
    assert [ask for _, ask in halfway.fleet.calls[:4]] == [Ask.STAGE] * 4
    assert f"Resume rollout {ROLLOUT}: release bbbbbbbbbbbb, 4 hosts, each asked first where it is." in halfway.err
    assert {task.request.rollout for task in halfway.fleet.tasks} == {ROLLOUT}


def test_every_request_of_a_resume_says_so(halfway: Shell) -> None:
    halfway("resume", "-y")

    assert {task.request.reopen for task in halfway.fleet.tasks} == {True}


def test_a_host_that_failed_is_begun_again(shell: Shell) -> None:
    shell.fleet.trouble[SECOND, Ask.UPGRADE].append(WENT_BACK)
    assert shell("upgrade", NEW, "-y", *QUICK, "--on-failure", "halt") == 3
    steps = steps_of(shell)

    assert shell("resume", "-y", "--parallel", "1") == 0

    assert phases(shell) == [Phase.NEW] * 4
    assert steps[FIRST] == [Step.RETIRE]
    assert steps[SECOND][0] is Step.SWAP


def test_a_rollout_that_is_complete_is_looked_at_and_left_so(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK)
    shell.fleet.calls.clear()

    assert shell("resume", "-y") == 0

    assert {Ask.UPGRADE, Ask.COMMIT}.isdisjoint(ask for _, ask in shell.fleet.calls)


def test_it_asks_before_it_goes_on(halfway: Shell) -> None:
    assert halfway("resume") == 2

    assert "-y" in halfway.err
    assert halfway.fleet.calls == []


def test_another_release_is_refused_by_both_hashes(halfway: Shell) -> None:
    assert halfway("resume", "-y", "--release", "c" * 64) == 2

    assert f"is not the release of rollout {ROLLOUT}: its hash is cccccccccccc, that of the rollout" in halfway.err
    assert "--release FILE" in halfway.err
    assert halfway.fleet.calls == []


def test_the_release_may_be_named_by_the_start_of_its_hash(halfway: Shell) -> None:
    assert halfway("resume", "-y", "--release", NEW[:8]) == 0


def test_options_that_are_given_replace_those_of_the_beginning(halfway: Shell) -> None:
    before = policy_of_last_run(halfway)

    assert halfway("resume", ROLLOUT[:6], "-y", "--commit", "never", "--max-failures", "50%", "--batches", "4") == 0

    assert policy_of_last_run(halfway) == replace(before, commit=CommitWhen.NEVER, max_failures=2, parallel=50)
    assert phases(halfway) == [Phase.TRIAL] * 4


def test_a_lease_that_is_too_short_is_refused(halfway: Shell) -> None:
    assert halfway("resume", "-y", "--lease", "1s") == 2

    assert "too short" in halfway.err


def test_only_the_selected_hosts_go_on(halfway: Shell) -> None:
    assert halfway("resume", "-y", "--limit", "web-01:web-03") == 0

    assert phases(halfway) == [Phase.NEW, Phase.TRIAL, Phase.NEW, Phase.OLD]


def test_a_selection_without_a_host_of_the_rollout_is_refused(halfway: Shell) -> None:
    more = an_inventory(halfway.inventory, 5)

    assert halfway("-i", str(more), "resume", "-y", "--limit", "web-05") == 2

    assert f"none of the selected hosts is in rollout {ROLLOUT}" in halfway.err


def test_hosts_that_the_inventory_has_no_more_are_named(halfway: Shell) -> None:
    an_inventory(halfway.inventory, 3)

    assert halfway("resume", "-y") == 2
    assert f"rollout {ROLLOUT} has hosts that the inventory does not have: web-04." in halfway.err
    assert halfway.fleet.calls == []

    assert halfway("resume", "-y", "--limit", "web-*") == 0
    assert phases(halfway) == [Phase.NEW] * 3 + [Phase.OLD]


def test_without_a_journal_the_hosts_own_records_are_gone_by(halfway: Shell, tmp_path: Path) -> None:
    words = ("resume", "-y", "--bake", "0", "--journal", str(tmp_path / "other.db"))
    assert halfway(*words) == 5
    assert (
        f"This journal did not begin rollout {ROLLOUT}: going by the hosts' own records, begun by alice@desk"
        in halfway.err
    )
    assert "another rollout holds web-01, web-02: " in halfway.err

    assert halfway(*words, "--force") == 0
    assert phases(halfway) == [Phase.NEW] * 2 + [Phase.OLD] * 2, "nobody has said that the others are meant"

    assert halfway(*words, "--force", "--limit", "all") == 0
    assert phases(halfway) == [Phase.NEW] * 4


def test_where_nobody_knows_a_rollout_nothing_is_begun(shell: Shell) -> None:
    assert shell("resume", "-y") == 2

    assert "neither this journal nor any host knows a rollout" in shell.err


def test_where_only_silent_hosts_could_know_the_rollout_a_person_is_needed(shell: Shell) -> None:
    shell.fleet.trouble[FIRST, Ask.LOOK].append(UNREACHABLE)

    assert shell("resume", "-y") == 4

    assert FIRST in shell.err


def test_a_rollout_that_was_taken_back_is_not_gone_on_with(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never")
    shell("rollback", "-y")
    shell.fleet.calls.clear()

    assert shell("resume", "-y") == 2

    assert f"rollout {ROLLOUT} was taken back: there is nothing to go on with" in shell.err
    assert shell.fleet.calls == []


@pytest.mark.parametrize(("ask", "phase"), [(Ask.ROLLBACK, Phase.OLD), (Ask.COMMIT, Phase.NEW)])
def test_an_interrupted_rollback_or_commit_is_gone_on_with_as_such(shell: Shell, ask: Ask, phase: Phase) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never")
    shell.fleet.meanwhile = interrupting(shell, ask, SECOND)
    assert shell(ask.value, "-y", "--parallel", "1") == 130
    assert phases(shell) == [phase] * 2 + [Phase.TRIAL] * 2

    assert shell("resume", "-y") == 0

    assert f"was interrupted in its {ask.value}, which is gone on with" in shell.err
    assert phases(shell) == [phase] * 4


def test_a_way_back_that_the_upgrade_had_begun_is_gone_on_with(shell: Shell) -> None:
    shell.fleet.trouble["web-03", Ask.UPGRADE].append(WENT_BACK)
    shell.fleet.meanwhile = interrupting(shell, Ask.ROLLBACK, FIRST)
    assert shell("upgrade", NEW, "-y", *QUICK) == 130

    assert shell("resume", "-y") == 0

    assert phases(shell) == [Phase.OLD] * 4


def test_a_rollback_that_was_interrupted_on_another_laptop_is_gone_on_with_there_as_such(
    shell: Shell, tmp_path: Path
) -> None:
    """Its journal knows of the rollout only that it was being taken back."""
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never")
    elsewhere = ("--journal", str(tmp_path / "bobs.db"))
    shell.fleet.meanwhile = interrupting(shell, Ask.ROLLBACK, SECOND)
    assert shell("rollback", "-y", "--parallel", "1", *elsewhere) == 130

    assert shell("resume", "-y", "--force", "--bake", "0", *elsewhere) == 0

    assert phases(shell) == [Phase.OLD] * 4
