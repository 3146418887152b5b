"""`fleet resume`: how a rollout continues, from the journal or from the hosts alone, and when it is refused."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from fleet import cli
from fleet.journal.journal import Journal
from fleet.onhost.protocol import Ask, Phase, Step
from fleet.onhost.state.fence import FENCE, Fence
from fleet.rollout.policy import CommitWhen, Policy, Rehearse
from fleet.task import HostTask
from tests.support.pretend.visit import Killed, Mishap
from tests.support.pretend.visits import NEW, UNREACHABLE, WENT_BACK, names
from tests.support.shell import QUICK, ROLLOUT, Shell, an_inventory

FIRST, SECOND = names(2)


def interrupting(shell: Shell, ask: Ask, host: str) -> Callable[[HostTask], None]:
    """Sends Ctrl-C once, during this visit."""
    heard: list[str] = []

    def on_visit(task: HostTask) -> None:
        if (task.request.ask, task.host.name) == (ask, host) and not heard:
            heard.append(host)
            os.kill(os.getpid(), signal.SIGINT)

    return on_visit


@pytest.fixture
def halfway(shell: Shell) -> Shell:
    """A rollout that was interrupted while its second batch was upgraded."""
    shell.fleet.on_visit = interrupting(shell, Ask.UPGRADE, SECOND)
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


def test_a_resume_does_the_missing_steps_and_no_other(halfway: Shell) -> None:
    assert phases(halfway) == [Phase.TRIAL, Phase.TRIAL, Phase.OLD, Phase.OLD]
    steps = steps_of(halfway)

    assert halfway("resume", "-y", "--parallel", "1") == 0

    assert phases(halfway) == [Phase.NEW] * 4
    assert {name: taken[0] for name, taken in steps.items()} == {
        **dict.fromkeys(names(2), Step.RETIRE),
        **dict.fromkeys(names(4)[2:], Step.SWAP),
    }
    assert [ask for _, ask in halfway.fleet.calls[:4]] == [Ask.STAGE] * 4
    assert f"Resuming the interrupted upgrade of rollout {ROLLOUT}: release bbbbbbbbbbbb, 4 hosts." in halfway.err
    assert {task.request.rollout for task in halfway.fleet.tasks} == {ROLLOUT}


def test_every_request_of_a_resume_says_so(halfway: Shell) -> None:
    halfway("resume", "-y")

    assert {task.request.reopen for task in halfway.fleet.tasks} == {True}


def test_a_failed_host_is_upgraded_again(shell: Shell) -> None:
    shell.fleet.outcomes[SECOND, Ask.UPGRADE].append(WENT_BACK)
    assert shell("upgrade", NEW, "-y", *QUICK, "--on-failure", "halt") == 3
    steps = steps_of(shell)

    assert shell("resume", "-y", "--parallel", "1") == 0

    assert phases(shell) == [Phase.NEW] * 4
    assert steps[FIRST] == [Step.RETIRE, Step.SWEEP]
    assert steps[SECOND][0] is Step.SWAP


def test_a_completed_rollout_is_looked_at_and_left_alone(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK)
    shell.fleet.calls.clear()

    assert shell("resume", "-y") == 0

    assert {Ask.UPGRADE, Ask.COMMIT}.isdisjoint(ask for _, ask in shell.fleet.calls)


def test_a_resume_asks_for_confirmation(halfway: Shell) -> None:
    assert halfway("resume") == 2

    assert "-y" in halfway.err
    assert halfway.fleet.calls == []


def test_another_release_is_refused_with_both_hashes(halfway: Shell) -> None:
    assert halfway("resume", "-y", "--release", "c" * 64) == 2

    assert f"is not the release of rollout {ROLLOUT}: its hash is cccccccccccc, the rollout's is" in halfway.err
    assert "--release FILE" in halfway.err
    assert halfway.fleet.calls == []


def test_the_release_may_be_named_by_the_start_of_its_hash(halfway: Shell) -> None:
    assert halfway("resume", "-y", "--release", NEW[:8]) == 0


def test_given_options_override_the_settings_the_rollout_started_with(halfway: Shell) -> None:
    before = policy_of_last_run(halfway)

    assert halfway("resume", ROLLOUT[:6], "-y", "--commit", "never", "--max-failures", "50%", "--batches", "4") == 0

    assert policy_of_last_run(halfway) == replace(before, commit=CommitWhen.NEVER, max_failures=2, parallel=50)
    assert phases(halfway) == [Phase.TRIAL] * 4


@pytest.mark.parametrize(
    ("began", "given", "is_rehearsed"),
    [
        ((), (), True),
        (("--rehearse", "off"), (), False),
        (("--rehearse", "off"), ("--rehearse", "auto"), True),
        ((), ("--rehearse", "off"), False),
    ],
)
def test_a_resumed_rollout_is_rehearsed_as_it_began_unless_another_setting_is_given(
    shell: Shell, began: tuple[str, ...], given: tuple[str, ...], is_rehearsed: bool
) -> None:
    shell.fleet.on_visit = interrupting(shell, Ask.UPGRADE, SECOND)
    assert shell("upgrade", NEW, "-y", *QUICK, *began) == 130
    assert {task.request.options.rehearse for task in shell.fleet.tasks} == {not began}
    shell.fleet.tasks.clear()

    assert shell("resume", "-y", *given) == 0

    asked = {task.request.options.rehearse for task in shell.fleet.tasks if task.request.ask is Ask.STAGE}
    assert asked == {is_rehearsed}
    assert policy_of_last_run(shell).rehearse is (Rehearse.AUTO if is_rehearsed else Rehearse.OFF)


@pytest.mark.parametrize(
    ("began", "given", "is_guarded"),
    [((), (), True), (("--no-guard",), (), False), (("--no-guard",), ("--guard",), True), ((), ("--no-guard",), False)],
)
def test_a_resumed_rollout_is_guarded_as_it_began_unless_the_operator_says_otherwise(
    shell: Shell, began: tuple[str, ...], given: tuple[str, ...], is_guarded: bool
) -> None:
    shell.fleet.on_visit = interrupting(shell, Ask.UPGRADE, SECOND)
    assert shell("upgrade", NEW, "-y", *QUICK, *began) == 130
    assert {task.request.options.guard for task in shell.fleet.tasks} == {not began}
    shell.fleet.tasks.clear()

    assert shell("resume", "-y", *given) == 0

    assert {task.request.options.guard for task in shell.fleet.tasks if task.request.ask is Ask.UPGRADE} == {is_guarded}
    assert policy_of_last_run(shell).guard is is_guarded


def test_a_rollout_of_an_older_fleet_is_rehearsed_when_it_is_resumed() -> None:
    plain = Policy(rehearse=Rehearse.OFF).to_plain()
    assert (plain.pop("rehearse"), Policy.from_plain(plain).rehearse) == ("off", Rehearse.AUTO)


def test_what_is_allowed_is_added_to_what_the_rollout_started_with(shell: Shell) -> None:
    shell.fleet.on_visit = interrupting(shell, Ask.UPGRADE, SECOND)
    assert shell("upgrade", NEW, "-y", *QUICK, "--batches", "1,1,2", "--allow", "quic") == 130
    shell.fleet.tasks.clear()

    assert shell("resume", "-y", "--allow", "quic", "--allow", "log-line=sched_setaffinity()") == 0

    both = ("quic", "log-line=sched_setaffinity()")
    assert policy_of_last_run(shell).allow == both
    assert {task.request.options.allow for task in shell.fleet.tasks} == {both}


def test_a_lease_that_is_too_short_is_refused(halfway: Shell) -> None:
    assert halfway("resume", "-y", "--lease", "1s") == 2

    assert "too short" in halfway.err


def test_only_the_selected_hosts_are_resumed(halfway: Shell) -> None:
    assert halfway("resume", "-y", "--limit", "web-01:web-03") == 0

    assert phases(halfway) == [Phase.NEW, Phase.TRIAL, Phase.NEW, Phase.OLD]


def test_a_selection_without_a_host_of_the_rollout_is_refused(halfway: Shell) -> None:
    more = an_inventory(halfway.inventory, 5)

    assert halfway("-i", str(more), "resume", "-y", "--limit", "web-05") == 2

    assert f"None of the selected hosts is in rollout {ROLLOUT}" in halfway.err


def test_hosts_that_are_no_longer_in_the_inventory_are_named(halfway: Shell) -> None:
    an_inventory(halfway.inventory, 3)

    assert halfway("resume", "-y") == 2
    assert f"Rollout {ROLLOUT} has hosts that the inventory does not have: web-04." in halfway.err
    assert halfway.fleet.calls == []

    assert halfway("resume", "-y", "--limit", "web-*") == 0
    assert phases(halfway) == [Phase.NEW] * 3 + [Phase.OLD]


def test_without_a_journal_the_hosts_records_say_what_to_resume(halfway: Shell, tmp_path: Path) -> None:
    words = ("resume", "-y", "--bake", "0", "--journal", str(tmp_path / "other.db"))
    assert halfway(*words) == 5
    assert (
        f"Rollout {ROLLOUT} is not in this journal. Resuming from the hosts' records: 2 hosts, release bbbbbbbbbbbb, started by"
        in halfway.err
    )
    assert "another rollout holds web-01, web-02: " in halfway.err

    assert halfway(*words, "--force") == 0
    assert phases(halfway) == [Phase.NEW] * 2 + [Phase.OLD] * 2, "the others were not selected"

    assert halfway(*words, "--force", "--limit", "all") == 0
    assert phases(halfway) == [Phase.NEW] * 4


def test_without_any_known_rollout_a_resume_is_refused(shell: Shell) -> None:
    assert shell("resume", "-y") == 2

    assert "Neither this journal nor any host knows a rollout" in shell.err


def test_a_resume_ends_4_if_only_silent_hosts_could_know_the_rollout(shell: Shell) -> None:
    shell.fleet.outcomes[FIRST, Ask.LOOK].append(UNREACHABLE)

    assert shell("resume", "-y") == 4

    assert FIRST in shell.err


@pytest.mark.parametrize("options", [("--max-failures", "1"), ("--on-failure", "halt")])
def test_the_resume_that_the_end_of_an_upgrade_names_upgrades_the_failed_hosts(
    shell: Shell, options: list[str]
) -> None:
    shell.fleet.outcomes[SECOND, Ask.UPGRADE].append(WENT_BACK)
    assert shell("upgrade", NEW, "-y", *QUICK, *options) == 3
    (line,) = [line for line in shell.lines if line.startswith("fleet resume")]
    assert f"Once the cause is removed, continue with `{line}`." in shell.err

    assert shell.type(line) == 0

    assert phases(shell) == [Phase.NEW] * 4


def test_a_rolled_back_rollout_is_not_resumed(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never")
    shell("rollback", "-y")
    shell.fleet.calls.clear()

    assert shell("resume", "-y") == 2

    assert f"Rollout {ROLLOUT} was rolled back. There is nothing to resume." in shell.err
    assert shell.fleet.calls == []


@pytest.mark.parametrize(("ask", "phase"), [(Ask.ROLLBACK, Phase.OLD), (Ask.COMMIT, Phase.NEW)])
def test_an_interrupted_rollback_or_commit_continues_as_such(shell: Shell, ask: Ask, phase: Phase) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never")
    shell.fleet.on_visit = interrupting(shell, ask, SECOND)
    assert shell(ask.value, "-y", "--parallel", "1") == 130
    assert phases(shell) == [phase] * 2 + [Phase.TRIAL] * 2

    assert shell("resume", "-y") == 0

    assert f"Resuming the interrupted {ask.value} of rollout {ROLLOUT}." in shell.err
    assert phases(shell) == [phase] * 4


def test_an_interrupted_commit_that_waits_for_nothing_continues_as_such(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never")
    for host in shell.fleet.hosts.values():
        host.drains_on = True
    shell.fleet.on_visit = interrupting(shell, Ask.COMMIT, SECOND)
    assert shell("commit", "-y", "--when-drained", "--within", "12h", "--parallel", "1") == 130

    assert shell("resume", "-y") == 0

    left = [host.report().retirement for host in shell.fleet.hosts.values()]
    assert [one.left_s for one in left if one is not None] == [43200.0] * 4


def test_an_upgrade_interrupted_while_it_rolled_back_continues_as_a_rollback(shell: Shell) -> None:
    shell.fleet.outcomes["web-03", Ask.UPGRADE].append(WENT_BACK)
    shell.fleet.on_visit = interrupting(shell, Ask.ROLLBACK, FIRST)
    assert shell("upgrade", NEW, "-y", *QUICK) == 130

    assert shell("resume", "-y") == 0

    assert phases(shell) == [Phase.OLD] * 4


def test_a_rollback_interrupted_on_another_laptop_continues_there_as_a_rollback(shell: Shell, tmp_path: Path) -> None:
    """The other laptop's journal knows only the rollback, not the upgrade."""
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never")
    elsewhere = ("--journal", str(tmp_path / "bobs.db"))
    shell.fleet.on_visit = interrupting(shell, Ask.ROLLBACK, SECOND)
    assert shell("rollback", "-y", "--parallel", "1", *elsewhere) == 130

    assert shell("resume", "-y", "--force", "--bake", "0", *elsewhere) == 0

    assert phases(shell) == [Phase.OLD] * 4


def test_a_rollout_that_was_resumed_can_be_committed_later(halfway: Shell) -> None:
    """The resume raised the epoch of hosts whose record still has the first run's."""
    assert halfway("resume", "-y", "--bake", "0", "--commit", "never") == 0
    assert set(phases(halfway)) == {Phase.TRIAL}

    assert halfway("commit", "-y") == 0, halfway.err

    assert set(phases(halfway)) == {Phase.NEW}


def test_a_resume_is_about_the_plan_and_not_about_a_dead_host_beside_it(shell: Shell) -> None:
    shell.fleet.on_visit = interrupting(shell, Ask.UPGRADE, FIRST)
    assert shell("upgrade", NEW, "-y", *QUICK, "--limit", "!web-04") == 130
    shell.fleet.off = {"web-04"}

    assert shell("resume", "-y") == 0, shell.err

    assert phases(shell) == [Phase.NEW] * 3 + [Phase.OLD]


@pytest.mark.parametrize("limit", ["!web-04", "web-0[1:3]"])
def test_a_host_that_was_left_out_may_be_gone_from_the_inventory(shell: Shell, limit: str) -> None:
    """The limit of the upgrade names a host that is no longer there."""
    shell.fleet.on_visit = interrupting(shell, Ask.UPGRADE, FIRST)
    assert shell("upgrade", NEW, "-y", *QUICK, "--limit", limit) == 130
    an_inventory(shell.inventory, 3)

    assert shell("resume", "-y") == 0, shell.err


def test_the_hosts_that_are_no_longer_in_the_inventory_are_left_out_by_the_line_that_is_printed(
    halfway: Shell,
) -> None:
    an_inventory(halfway.inventory, 3)
    assert halfway("resume", "-y", "--bake", "0") == 2
    (line,) = halfway.lines

    assert halfway.type(line) == 0
    assert phases(halfway) == [Phase.NEW] * 3 + [Phase.OLD]


def test_a_resume_without_the_inventory_prints_lines_that_have_it(halfway: Shell) -> None:
    """The journal has the inventory. A rollback does not ask the journal for it."""
    assert cli.run(("resume", "-y", "--commit", "never"), halfway.environment) == 0
    halfway.out, halfway.err = halfway.capsys.readouterr()
    (line,) = [line for line in halfway.lines if line.startswith("fleet rollback")]

    assert halfway.type(line) == 0
    assert phases(halfway) == [Phase.OLD] * 4


def test_a_host_that_does_not_pass_preflight_is_left_out_by_the_line_that_is_printed(halfway: Shell) -> None:
    halfway.fleet.off = {"web-04"}
    assert halfway("resume", "-y", "--bake", "0", "--max-failures", "3") == 2
    assert "--max-failures does not cover preflight" in halfway.err
    (line,) = [line for line in halfway.lines if "!web-04" in line]

    assert halfway.type(line) == 0
    assert phases(halfway) == [Phase.NEW] * 3 + [Phase.OLD]


def test_without_a_journal_a_silent_host_may_be_in_the_rollout(halfway: Shell, tmp_path: Path) -> None:
    halfway.fleet.off = {"web-04"}
    words = ("resume", "-y", "--bake", "0", "--force", "--journal", str(tmp_path / "other.db"))

    assert halfway(*words) == 2
    assert f"web-04 did not answer, and no journal here shows whether rollout {ROLLOUT} has begun it" in halfway.err
    assert phases(halfway) == [Phase.TRIAL] * 2 + [Phase.OLD] * 2

    (line,) = [line for line in halfway.lines if "!web-04" in line]
    assert halfway.type(line) == 0
    assert phases(halfway) == [Phase.NEW] * 2 + [Phase.OLD] * 2, "a host that is left out adds no other one"


def half_way_back(shell: Shell, tmp_path: Path) -> None:
    """bob's rollback of alice's rollout was killed on the canary, in its first step."""
    shell.fleet.on_visit = interrupting(shell, Ask.UPGRADE, SECOND)
    assert shell("upgrade", NEW, "-y", *QUICK, "--batches", "1,1,2") == 130
    host = shell.fleet.hosts[FIRST]

    def dies(task: HostTask) -> None:
        if (task.request.ask, task.host.name) == (Ask.ROLLBACK, FIRST):
            with suppress(Killed):
                host.answer(task.request, Mishap(killed_after=1))
            shell.fleet.off = set(shell.fleet.hosts)

    shell.fleet.on_visit = dies
    assert shell("rollback", "-y", "--parallel", "1", "--journal", str(tmp_path / "bobs.db")) == 4
    shell.fleet.off, shell.fleet.on_visit = set(), lambda task: None
    assert host.phase() is Phase.OVERLAP


def test_a_rollback_that_did_not_finish_is_named_with_the_line_that_finishes_it(shell: Shell, tmp_path: Path) -> None:
    half_way_back(shell, tmp_path)

    assert shell("resume", "-y", "--bake", "0", "--force") == 4

    assert f"A rollback of this rollout did not finish on {FIRST}. Finish it first: " in shell.err
    assert f"{FIRST}: A rollback of this rollout has begun on this host and did not finish" in shell.out
    assert shell.fleet.hosts[SECOND].phase() is Phase.TRIAL, "no other host was changed"
    (line,) = [line for line in shell.lines if line.startswith("fleet rollback")]
    assert shell.type(line) == 0
    assert phases(shell) == [Phase.OLD] * 4


def test_a_rollback_that_may_still_be_at_work_has_the_host(shell: Shell, tmp_path: Path) -> None:
    half_way_back(shell, tmp_path)

    assert shell("resume", "-y", "--bake", "0") == 5

    assert f"another rollout holds {FIRST}" in shell.err
    (line,) = [line for line in shell.lines if line.startswith("fleet rollback 2")]
    assert shell.type(line) == 0
    assert phases(shell) == [Phase.OLD] * 4


def test_a_held_host_whose_rollback_only_began_needs_no_person(shell: Shell) -> None:
    assert shell("upgrade", NEW, "-y", *QUICK, "--commit", "never") == 0
    shell.fleet.hosts[FIRST].own.save(FENCE, Fence(9, ROLLOUT, "bob@desk", "", (ROLLOUT,)))

    assert shell("resume", "-y", "--bake", "0") == 2

    assert f"did not finish on {FIRST}" in shell.err
