"""`fleet history`: the rollouts in the journal."""

import json

from syrupy.assertion import SnapshotAssertion

from fleet.onhost.protocol import Ask
from tests.support.pretend.visits import NEW, WENT_BACK
from tests.support.shell import QUICK, Shell


def test_the_history_lists_the_runs_of_every_rollout_the_newest_first(
    shell: Shell, snapshot: SnapshotAssertion
) -> None:
    shell.fleet.outcomes["web-03", Ask.UPGRADE].append(WENT_BACK)
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never", "--max-failures", "1")
    shell("commit", "-y")
    shell("rollback", "-y")
    shell("upgrade", NEW, "-y", *QUICK)

    assert shell("history") == 0
    assert shell.out == snapshot(name="table")
    assert shell("history", "--json", "--most", "1") == 0
    assert json.loads(shell.out) == snapshot(name="document")


def test_a_missing_journal_has_no_rollout_and_is_not_created(shell: Shell) -> None:
    assert shell("history") == 0
    assert f"The journal {shell.journal} holds no rollout yet." in shell.err
    assert shell("history", "--json") == 0
    assert json.loads(shell.out) == {"schema": "fleet.history/1", "rollouts": []}
    assert not shell.journal.exists()
