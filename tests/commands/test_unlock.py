"""`fleet unlock`: which run holds the journal and the hosts, and how they are released."""

import json
from pathlib import Path

from fleet.onhost.protocol import Ask
from tests.support.pretend.visits import NEW, UNREACHABLE
from tests.support.shell import QUICK, Elsewhere, Shell


def claims(shell: Shell) -> list[str | None]:
    return [host.report().claim and host.report().claim.rollout for host in shell.fleet.hosts.values()]  # type: ignore[union-attr]


def test_free_locks_are_shown_as_free(shell: Shell) -> None:
    assert shell("unlock") == 0

    assert f"The journal {shell.journal}: no run holds it." in shell.out
    assert "No host is claimed." in shell.out
    assert {ask for _, ask in shell.fleet.calls} == {Ask.LOOK}


def test_the_holder_of_the_journal_and_of_each_host_is_named(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never", "--limit", "web-01")

    with Elsewhere(shell):
        assert shell("unlock") == 0

    assert "held by bob@couch (fleet upgrade of rollout 20261123-0900-else, pid 4711 on couch)" in " ".join(
        shell.out.split()
    )
    assert "web-01: rollout 20261123-1000-test by alice@desk" in shell.out
    assert "web-02" not in shell.out


def test_the_holders_as_a_json_document(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never", "--limit", "web-01")
    shell.fleet.outcomes["web-04", Ask.LOOK].append(UNREACHABLE)

    with Elsewhere(shell):
        assert shell("unlock", "--json") == 4

    document = json.loads(shell.out)
    assert document["schema"] == "fleet.locks/1"
    assert document["journal"]["holder"]["operator"] == "bob@couch"
    first, second, _, silent = document["hosts"]
    assert first["claim"]["rollout"] == "20261123-1000-test"
    assert (second["claim"], second["error"]) == (None, None)
    assert silent["error"] == "No answer within 10 s."


def test_force_releases_the_journal_and_the_hosts(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never")
    assert claims(shell) == ["20261123-1000-test"] * 4

    with Elsewhere(shell) as other:
        assert shell("unlock", "--force", "-y") == 0
        assert other.owner() is None

    assert "Released." in shell.err
    assert claims(shell) == [None] * 4


def test_force_releases_the_claim_of_another_journal(shell: Shell, tmp_path: Path) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never", "--journal", str(tmp_path / "bobs.db"))
    assert shell("upgrade", "c" * 64, "-y", *QUICK) == 5

    assert shell("unlock", "--force", "-y") == 0

    assert claims(shell) == [None] * 4


def test_a_host_that_can_t_be_released_ends_4_and_is_named(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never")
    shell.fleet.outcomes["web-02", Ask.UNLOCK].append(UNREACHABLE)

    assert shell("unlock", "--force", "-y") == 4

    assert "Not released: web-02." in shell.err


def test_force_without_confirmation_releases_nothing(shell: Shell) -> None:
    with Elsewhere(shell) as other:
        assert shell("unlock", "--force") == 2
        assert other.owner() == "bob@couch"
