"""The command line, from words to exit code, with pretend hosts behind it: what an operator types and what scripts read."""

import hashlib
import json
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import rich_click as click
from syrupy.assertion import SnapshotAssertion

from fleet import cli
from fleet.commands.lease_option import LEASE_S
from fleet.environment import rollout_id
from fleet.journal.journal import Journal
from fleet.journal.process_identity import Process, this_process
from fleet.lab.cli import lab
from fleet.lab.releases.build import KINDS
from fleet.onhost.protocol import Ask, Finding, Phase
from fleet.onhost.reasons.catalogue import REASONS, judged, overridable
from fleet.options.rollout import OVERRIDABLE
from fleet.rollout.policy import OnFailure, Policy
from fleet.task import HostTask
from fleet.ui.result_tables import finding_line
from tests.support.pretend.visits import AT, NEW, REFUSED, UNREACHABLE, WENT_BACK, a_fleet, fast_clock
from tests.support.shell import HOSTS, QUICK, ROLLOUT, Elsewhere, Shell

Words = tuple[str, ...]


def test_an_upgrade_is_told_line_by_line_and_ends_with_a_table(shell: Shell, snapshot: SnapshotAssertion) -> None:
    code = shell("upgrade", NEW, "-y", *QUICK)

    assert code == 0
    assert shell.out == snapshot(name="stdout")
    assert shell.err == snapshot(name="stderr")
    assert [host.phase() for host in shell.fleet.hosts.values()] == [Phase.NEW] * 4


def test_an_upgrade_that_goes_back_ends_3_and_says_why(shell: Shell, snapshot: SnapshotAssertion) -> None:
    shell.fleet.trouble["web-02", Ask.UPGRADE].append(WENT_BACK)

    code = shell("upgrade", NEW, "-y", *QUICK)

    assert code == 3
    assert shell.out == snapshot(name="stdout")
    assert shell.err == snapshot(name="stderr")


def test_one_refusal_in_preflight_ends_2_and_changes_nothing(shell: Shell) -> None:
    shell.fleet.trouble["web-03", Ask.STAGE].append(REFUSED)

    code = shell("upgrade", NEW, "-y", *QUICK)

    assert code == 2
    assert shell.fleet.asked(Ask.UPGRADE) == []
    assert "web-03: stage refused: nginx runs with daemon off. Start it with daemon on." in shell.err


def test_without_a_terminal_and_without_yes_nothing_is_connected_to(shell: Shell) -> None:
    for words in (("upgrade", NEW), ("upgrade", NEW, "--output", "jsonl")):
        assert shell(*words) == 2
        assert "-y" in shell.err

    assert shell.fleet.calls == []


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("yes\n", 0), ("n\n", 2), ("\n", 2), ("", 2)])
def test_on_a_terminal_the_operator_is_asked(
    shell: Shell, answer: str, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shell.terminal = True
    (tmp_path / "typed").write_text(answer)

    with (tmp_path / "typed").open() as typed:
        monkeypatch.setattr(sys, "stdin", typed)
        assert shell("upgrade", NEW, *QUICK) == code

    assert "Upgrade 4 hosts? [y/N]" in shell.err
    assert bool(shell.fleet.calls) == (code == 0)


def test_a_dry_run_says_the_plan_and_connects_to_nobody(shell: Shell, snapshot: SnapshotAssertion) -> None:
    words = ("--batches", "1,50%", "--max-failures", "25%", "--on-failure", "halt", "--commit", "never", "--bake", "5m")

    assert shell("upgrade", NEW, "--dry-run", *words) == 0

    assert shell.out == snapshot
    assert shell.fleet.calls == []


@pytest.mark.parametrize("release", [NEW[:8], NEW])
def test_a_dry_run_of_a_kept_release_connects_to_nobody(shell: Shell, release: str) -> None:
    assert shell("upgrade", release, "--dry-run") == 0

    assert f"release {release[:8]}" in shell.out
    assert shell.fleet.calls == []


def test_no_word_of_the_operator_is_read_as_markup(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "[" / "foo]" / "[bold]:smile:"
    path.parent.mkdir(parents=True)
    path.write_bytes(Path(sys.executable).resolve().read_bytes())
    path.chmod(0o755)

    assert shell("upgrade", str(path), "--dry-run") == 0
    assert str(path) in shell.out
    for words in (("upgrade", NEW, "--bake", "[/foo]"), ("upgrade", "[/foo]"), ("[/foo]",), ("status", "[/foo]")):
        assert shell(*words) == 2
        assert "[/foo]" in shell.err


def test_every_allow_that_is_printed_may_be_typed_and_is_told_to_the_hosts(shell: Shell) -> None:
    for word in overridable():
        printed = judged((finding_of(word),), ())[0].remedy
        typed = printed.split("--allow ")[1].rstrip(".")
        assert finding_line(judged((finding_of(word),), ())[0]).count("--allow") == 1
        for spelling in (typed, typed.replace("-", "_")):
            for command in (("check", NEW), ("upgrade", NEW, "-y", *QUICK)):
                shell.fleet, shell.ids = a_fleet(4), iter([ROLLOUT])
                assert shell(*command, "--allow", spelling) == 0
                assert {task.request.options.allow for task in shell.fleet.tasks} == {(word,)}


def finding_of(word: str) -> Finding:
    reason = REASONS[word.replace("-", "_")]
    return Finding(reason.word, reason.severity, "Something is so.", "Cure it.", reason.overridable)


def test_check_and_upgrade_refuse_the_same_words_after_allow(shell: Shell) -> None:
    for command in (("check", NEW), ("upgrade", NEW, "-y"), ("upgrade", NEW, "--dry-run")):
        assert shell(*command, "--allow", "nonsense") == 2
        assert "--allow nonsense" in shell.err
        assert all(word in shell.err for word in overridable())

    assert shell.fleet.calls == []


def test_the_help_of_allow_lists_every_word() -> None:
    assert ", ".join(overridable()) == OVERRIDABLE


def test_options_that_may_be_repeated_add_up_before_and_after_the_command(shell: Shell) -> None:
    assert shell("-l", "web-01", "inventory", "-l", "web-03", "--json") == 0

    assert [host["name"] for host in json.loads(shell.out)["hosts"]] == ["web-01", "web-03"]


EVENT_KEYS = {"schema", "at", "rollout", "type", "host", "batch", "step", "outcome", "reason", "message", "took_s"}


def test_every_line_of_jsonl_is_an_event_and_the_last_one_says_how_it_ended(shell: Shell) -> None:
    code = shell("upgrade", NEW, "-y", *QUICK, "--output", "jsonl")

    lines = [json.loads(line) for line in shell.out.splitlines()]
    assert code == 0
    assert all(set(line) >= EVENT_KEYS for line in lines)
    assert {line["schema"] for line in lines} == {"fleet.event/1"}
    assert lines[0]["type"] == "rollout_started"
    last = lines[-1]
    assert (last["type"], last["result"], last["exit_code"]) == ("rollout_ended", "completed", 0)
    assert last["counts"] == {
        "hosts": 4,
        "done": 4,
        "failed": 0,
        "refused": 0,
        "unreachable": 0,
        "unverified": 0,
        "rolled_back": 0,
        "begun": 0,
        "not_begun": 0,
        "left_alone": 0,
    }


def test_one_event_in_full(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--output", "jsonl")

    ended = [json.loads(line) for line in shell.out.splitlines() if '"visit_ended"' in line and '"upgrade"' in line]
    assert ended[0] == {
        "schema": "fleet.event/1",
        "at": "2026-11-23T10:00:00.000Z",
        "rollout": ROLLOUT,
        "type": "visit_ended",
        "host": "web-01",
        "batch": 1,
        "step": None,
        "outcome": "done",
        "reason": None,
        "message": "",
        "took_s": 0.2,
        "ask": "upgrade",
        "phase": "TRIAL",
    }


def test_the_log_file_has_every_event(shell: Shell, tmp_path: Path) -> None:
    log = tmp_path / "fleet.log"

    shell("upgrade", NEW, "-y", *QUICK, "--log-file", str(log))

    types = [json.loads(line)["type"] for line in log.read_text().splitlines()]
    assert types[0] == "rollout_started"
    assert types[-1] == "rollout_ended"
    assert types.count("step_ended") == len(shell.fleet.calls)


def test_a_log_file_that_can_t_be_written_is_refused_before_anything(shell: Shell, tmp_path: Path) -> None:
    assert shell("upgrade", NEW, "-y", "--log-file", str(tmp_path / "nowhere" / "log")) == 2
    assert shell.fleet.calls == []


STATUS_KEYS = {"name", "phase", "running_sha256", "running_version", "path_sha256", "held", "masters", "error"}
MORE_STATUS_KEYS = set(
    """
    path path_version pid_file rollout operator state why undo drain_pending start_command orphans unconfirmed
    lease_left_s claim
    """.split()
)
MASTER_KEYS = {"pid", "sha256", "version", "is_old", "workers", "draining"}


def test_the_keys_of_the_status_document_are_a_promise(shell: Shell) -> None:
    shell.fleet.trouble["web-04", Ask.LOOK].append(UNREACHABLE)

    code = shell("status", "--json")

    document = json.loads(shell.out)
    assert code == 4
    assert set(document) == {"schema", "hosts"}
    assert document["schema"] == "fleet.status/1"
    for host in document["hosts"]:
        assert set(host) == STATUS_KEYS | MORE_STATUS_KEYS
        assert all(set(master) == MASTER_KEYS for master in host["masters"])
    silent = document["hosts"][3]
    assert silent["phase"] is None
    assert silent["error"] == {"reason": "timeout", "message": "No answer within 10 s. See whether it is up."}
    assert document["hosts"][0]["error"] is None


def test_status_shows_what_is_held(shell: Shell, snapshot: SnapshotAssertion) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never", "--limit", "web-01:web-02")

    assert shell("status") == 0
    assert shell.out == snapshot


def test_status_looks_and_claims_nothing(shell: Shell) -> None:
    shell("status")

    assert {task.request.ask for task in shell.fleet.tasks} == {Ask.LOOK}
    assert {task.request.allowed for task in shell.fleet.tasks} == {()}
    assert {task.request.epoch for task in shell.fleet.tasks} == {0}


def test_check_lists_what_was_found_on_every_host(shell: Shell, snapshot: SnapshotAssertion) -> None:
    shell.fleet.trouble["web-02", Ask.STAGE].append(REFUSED)

    assert shell("check", NEW, "--parallel", "1") == 2
    assert shell.out == snapshot


def test_check_without_staging_asks_for_no_step(shell: Shell) -> None:
    assert shell("check", NEW, "--no-stage") == 0

    assert "can be upgraded" not in shell.out + shell.err
    assert "OLD" not in shell.err
    assert "Preflight passed on 4 hosts; the release was not staged" in shell.err
    assert {task.request.allowed for task in shell.fleet.tasks} == {()}
    assert {task.release_path for task in shell.fleet.tasks} == {None}


def test_check_as_a_document(shell: Shell) -> None:
    shell.fleet.trouble["web-02", Ask.STAGE].append(REFUSED)

    assert shell("check", NEW, "--json") == 2

    document = json.loads(shell.out)
    assert document["schema"] == "fleet.check/1"
    assert [host["can_be_upgraded"] for host in document["hosts"]] == [True, False, True, True]


def test_a_check_without_staging_does_not_know_as_a_document_either(shell: Shell) -> None:
    assert shell("check", NEW, "--no-stage", "--json") == 0

    assert {host["can_be_upgraded"] for host in json.loads(shell.out)["hosts"]} == {None}


def test_upgrade_hold_commit_and_roll_back_again(shell: Shell) -> None:
    assert shell("upgrade", NEW, "-y", *QUICK, "--commit", "never") == 0
    assert [host.phase() for host in shell.fleet.hosts.values()] == [Phase.TRIAL] * 4

    assert shell("commit", "-y") == 0
    assert [host.phase() for host in shell.fleet.hosts.values()] == [Phase.NEW] * 4

    assert shell("rollback", ROLLOUT[:8], "-y") == 0
    assert [host.phase() for host in shell.fleet.hosts.values()] == [Phase.OLD] * 4
    assert ROLLOUT in shell.err


def test_commit_and_rollback_do_nothing_where_no_host_knows_a_rollout(shell: Shell) -> None:
    for command in ("commit", "rollback"):
        assert shell(command, "-y") == 0
        assert "nothing to do" in shell.err

    assert {ask for _, ask in shell.fleet.calls} == {Ask.LOOK}


@pytest.mark.parametrize("wanted", ["20251231", "nonsense"])
def test_a_rollout_that_no_host_knows_is_refused_and_the_known_ones_are_named(shell: Shell, wanted: str) -> None:
    shell("upgrade", NEW, "-y", *QUICK)

    assert shell("rollback", wanted, "-y") == 2
    assert ROLLOUT in shell.err
    assert shell.fleet.asked(Ask.ROLLBACK) == []


def test_where_only_silent_hosts_could_know_the_rollout_a_person_is_needed(shell: Shell) -> None:
    for name in shell.fleet.hosts:
        shell.fleet.trouble[name, Ask.LOOK].append(UNREACHABLE)

    assert shell("rollback", "-y") == 4


def test_a_rollback_with_a_dead_host_takes_the_others_back_and_ends_4(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK)
    shell.environment = replace(shell.environment, clock=fast_clock)
    for ask in (Ask.LOOK, Ask.ROLLBACK):
        shell.fleet.trouble["web-02", ask].extend([UNREACHABLE] * 99)

    assert shell("rollback", "-y") == 4

    phases = {name: host.phase() for name, host in shell.fleet.hosts.items()}
    assert phases == {"web-01": Phase.OLD, "web-02": Phase.NEW, "web-03": Phase.OLD, "web-04": Phase.OLD}
    assert "web-02" in shell.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("upgrade", "/no/such/file", "-y"), "/no/such/file: no such file"),
        (("upgrade", NEW, "-y", "--bake", "soon"), "'soon' is not a valid duration"),
        (("upgrade", NEW, "-y", "--batches", "0"), "--batches '0' is not a valid list of sizes"),
        (("upgrade", NEW, "-y", "--max-failures", "many"), "--max-failures 'many'"),
        (("upgrade", NEW, "-y", "--allow", "everything"), "--allow everything"),
        (("upgrade", NEW, "-y", "--limit", "web-99"), "web-99"),
        (("upgrade", "abababab", "-y"), "No host knows a release abababab"),
        (("upgrade",), "Missing argument"),
        (("status", "--nonsense"), "--nonsense"),
        (("launch",), "launch"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_is_refused_in_words_and_changes_nothing(shell: Shell, words: Words, said: str) -> None:
    assert shell(*words) == 2

    assert said in shell.err
    assert {ask for _, ask in shell.fleet.calls} <= {Ask.LOOK}


def test_a_release_may_be_named_by_the_first_digits_of_a_hash_that_a_host_keeps(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK)
    shell("rollback", "-y")

    assert shell("upgrade", NEW[:8], "-y", *QUICK) == 0
    assert [host.runs for host in shell.fleet.hosts.values()] == [NEW] * 4


def test_inventory_lists_the_selected_hosts(shell: Shell) -> None:
    assert shell("inventory", "--limit", "web-02", "--json") == 0

    document = json.loads(shell.out)
    assert [host["name"] for host in document["hosts"]] == ["web-02"]
    assert document["hosts"][0]["labels"] == {"zone": "eu-1"}
    assert shell("inventory") == 0
    assert "192.0.2.4" in shell.out


def test_the_inventory_may_come_from_the_environment_and_what_is_typed_beats_it(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, inventory: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(HOSTS + "    edge: {}\n")
    monkeypatch.setenv("FLEET_INVENTORY", str(other))

    assert cli.run(("inventory",), shell.environment) == 0
    assert shell.capsys.readouterr().out.splitlines()[1].startswith("edge")
    assert cli.run(("-i", str(inventory), "inventory"), shell.environment) == 0
    assert shell.capsys.readouterr().out.splitlines()[1].startswith("web-01")
    assert cli.run(("inventory", "-i", str(inventory)), shell.environment) == 0
    assert shell.capsys.readouterr().out.splitlines()[1].startswith("web-01")


def test_no_inventory_at_all_is_refused_with_the_remedy(shell: Shell) -> None:
    assert cli.run(("status",), shell.environment) == 2
    assert "-i" in shell.capsys.readouterr().err


def test_nothing_written_to_a_pipe_has_control_codes(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "-v")

    assert "\x1b" not in shell.out + shell.err


def every_option() -> list[tuple[str, click.Option]]:
    found = []
    for name, command in (*cli.fleet.commands.items(), *lab.commands.items()):
        found += [(name, option) for option in command.params if isinstance(option, click.Option)]
    return found


def test_every_option_has_an_environment_variable_and_says_its_default() -> None:
    for command, option in every_option():
        if option.name == "help":
            continue
        assert str(option.envvar).startswith("FLEET_"), f"{command} {option.name}"
        assert option.show_default, f"{command} {option.name}"
        assert option.help, f"{command} {option.name}"


def test_the_help_of_lab_release_lists_the_kinds() -> None:
    told = " ".join((lab.commands["release"].help or "").split())

    assert f": {', '.join(KINDS)}." in told


COMMANDS: tuple[Words, ...] = (
    *((), ("upgrade",), ("check",), ("status",), ("commit",), ("rollback",), ("inventory",)),
    *(("history",), ("show",)),
)


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words) or "fleet")
def test_every_command_has_help(shell: Shell, words: Words) -> None:
    assert cli.run((*words, "--help"), shell.environment) == 0
    assert "Usage" in shell.capsys.readouterr().out


def test_help_loads_neither_ssh_nor_the_libraries_of_the_inventory_and_the_journal() -> None:
    code = (
        "import sys; from fleet import cli; cli.run(['--help']);"
        "heavy = ('fabric', 'paramiko', 'pydantic', 'ruamel.yaml', 'elftools', 'sqlalchemy', 'platformdirs');"
        "print([name for name in heavy if name in sys.modules])"
    )

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ran.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", ["status", "inventory"])
def test_what_reads_no_journal_does_not_load_its_library(command: str, inventory: Path) -> None:
    code = (
        "import sys; from fleet import cli; from fleet.engine import Visits; from fleet.environment import Environment;"
        "from tests.support.pretend.visits import a_fleet; hosts = a_fleet(4);"
        "visits = lambda: Visits(hosts.visit, hosts.request_stop, hosts.cut_all);"
        "code = cli.run(sys.argv[1:], Environment(visits=visits)); print(code, 'sqlalchemy' in sys.modules)"
    )

    argv = [sys.executable, "-c", code, "-i", str(inventory), command]
    ran = subprocess.run(argv, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True)

    assert ran.stdout.splitlines()[-1] == "0 False"


def test_the_ids_of_rollouts_sort_by_time_and_differ() -> None:
    ids = {rollout_id(AT) for _ in range(50)}

    assert len(ids) > 45
    assert all(each.startswith("20261123-1000-") and len(each) == 18 for each in ids)


# The journal


def test_the_history_lists_the_runs_of_every_rollout_the_newest_first(
    shell: Shell, snapshot: SnapshotAssertion
) -> None:
    shell.fleet.trouble["web-03", Ask.UPGRADE].append(WENT_BACK)
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never", "--max-failures", "1")
    shell("commit", "-y")
    shell("rollback", "-y")
    shell("upgrade", NEW, "-y", *QUICK)

    assert shell("history") == 0
    assert shell.out == snapshot(name="table")
    assert shell("history", "--json", "--most", "1") == 0
    assert json.loads(shell.out) == snapshot(name="document")


def test_a_rollout_is_shown_from_beginning_to_end(shell: Shell, snapshot: SnapshotAssertion) -> None:
    shell.fleet.trouble["web-03", Ask.UPGRADE].append(WENT_BACK)
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never", "--max-failures", "1", "--allow", "quic")

    assert shell("show") == 0
    assert shell.out == snapshot
    assert shell.err == ""


def test_the_runs_of_a_rollout_are_shown_one_after_the_other(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never")
    shell("commit", "-y")
    shell("rollback", "-y")

    assert shell("show", ROLLOUT[:8]) == 0

    places = [shell.out.index(f"fleet {command} by alice@desk") for command in ("upgrade", "commit", "rollback")]
    assert places == sorted(places)


def test_what_is_shown_as_events_is_what_was_told_as_events(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--output", "jsonl")
    told = shell.out

    assert shell("show", ROLLOUT, "--output", "jsonl") == 0
    assert shell.out == told
    assert shell("show", ROLLOUT, "--json") == 0
    document = json.loads(shell.out)
    assert document["schema"] == "fleet.show/1"
    assert document["runs"][0]["events"] == [json.loads(line) for line in told.splitlines()]


def test_a_rollout_that_the_journal_does_not_know_is_refused_with_those_it_knows(shell: Shell) -> None:
    assert shell("show") == 2
    assert "There is no journal" in shell.err
    assert not shell.journal.exists()
    shell("upgrade", NEW, "-y", *QUICK)
    shell("rollback", "-y")
    shell("upgrade", NEW, "-y", *QUICK)

    for wanted, said in (("2025", "holds no rollout 2025"), ("2026", "matches several rollouts")):
        assert shell("show", wanted) == 2
        assert said in shell.err
        assert ROLLOUT in shell.err


def test_a_journal_that_is_not_there_knows_no_rollout_and_is_not_made_by_asking(shell: Shell) -> None:
    assert shell("history") == 0
    assert f"The journal {shell.journal} holds no rollout yet." in shell.err
    assert shell("history", "--json") == 0
    assert json.loads(shell.out) == {"schema": "fleet.history/1", "rollouts": []}
    assert not shell.journal.exists()


def test_nothing_that_the_journal_tells_can_steer_a_terminal(shell: Shell) -> None:
    shell.environment = replace(shell.environment, operator=lambda: "eve\x1b[2J[red]\u202e@desk")
    shell("upgrade", NEW, "-y", *QUICK)

    for words in (("history",), ("show",)):
        assert shell(*words) == 0
        assert "eve" in shell.out
        assert "[red]" in shell.out
        assert not {"\x1b", "\u202e"} & set(shell.out)


def test_the_first_event_holds_all_that_is_needed_to_go_on(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "nginx"
    path.write_bytes(Path(sys.executable).resolve().read_bytes())
    path.chmod(0o755)
    (tmp_path / "names").write_text("web-01\nweb-02\n")

    shell("upgrade", str(path), "-y", *QUICK, "--on-failure", "halt", "--limit", f"@{tmp_path}/names")
    with Journal.open(str(shell.journal)) as journal:
        facts = journal.runs(ROLLOUT)[0].facts

    assert facts["command"] == "upgrade"
    assert facts["operator"] == "alice@desk"
    assert facts["release"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts["release_path"] == str(path)
    assert facts["release_bytes"] == path.stat().st_size
    assert facts["batches"] == [["web-01"], ["web-02"]]
    assert facts["inventory"] == [str(shell.inventory)]
    assert facts["limit"] == [f"@{tmp_path}/names"]
    assert Policy.from_plain(facts["policy"]) == Policy(
        bake_s=0.0, parallel=1, on_failure=OnFailure.HALT, lease_s=LEASE_S
    )
    assert Process.from_plain(facts["controller"]) == this_process()


def test_commit_and_rollback_say_what_they_are_about_too(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never")
    shell("commit", "-y", "--cut")
    shell("rollback", "-y")

    with Journal.open(str(shell.journal)) as journal:
        runs = journal.runs(ROLLOUT)

    assert [run.command for run in runs] == ["upgrade", "commit", "rollback"]
    assert {run.facts["release"] for run in runs} == {NEW}
    assert [Policy.from_plain(run.facts["policy"]).cut for run in runs] == [False, True, False]


def test_what_only_looks_writes_no_journal(shell: Shell) -> None:
    shell("check", NEW)
    shell("status")
    shell("upgrade", NEW, "--dry-run")

    assert not shell.journal.exists()


@pytest.mark.parametrize("command", [("upgrade", NEW), ("commit",)])
def test_a_run_is_refused_while_another_one_has_the_lock_and_its_holder_is_named(shell: Shell, command: Words) -> None:
    with Elsewhere(shell) as other:
        assert shell(*command, "-y") == 5
        assert other.owner() == "bob@couch"

    assert "bob@couch (fleet upgrade of rollout 20261123-0900-else, pid 4711 on couch)" in shell.err
    assert "--lock-wait 5m" in shell.err
    assert shell.fleet.calls == []


def test_a_run_may_wait_for_the_lock_and_says_for_whom(shell: Shell) -> None:
    with Elsewhere(shell):
        assert shell("upgrade", NEW, "-y", *QUICK, "--lock-wait", "100ms") == 5

    assert "Waiting up to 0.1 s for the journal's lock, held by bob@couch" in shell.err
    assert shell.fleet.calls == []


def test_a_run_may_take_the_lock_by_force(shell: Shell) -> None:
    with Elsewhere(shell) as other:
        assert shell("upgrade", NEW, "-y", *QUICK, "--force") == 0
        assert other.owner() is None


def test_a_run_that_ended_leaves_the_lock_to_the_next(shell: Shell) -> None:
    for words in (("upgrade", NEW, "-y", *QUICK, "--commit", "never"), ("commit", "-y"), ("rollback", "-y")):
        assert shell(*words) == 0
        with Journal.open(str(shell.journal)) as journal:
            assert journal.lock("ann", "look").holder() is None


@pytest.mark.parametrize("rollout", [ROLLOUT, "20261123-0900-else"])
def test_a_rollback_waits_for_nobody(shell: Shell, rollout: str) -> None:
    shell("upgrade", NEW, "-y", *QUICK)

    with Elsewhere(shell, rollout) as other:
        assert shell("rollback", "-y") == 0
        assert other.owner() == (None if rollout == ROLLOUT else "bob@couch")

    said = "pid 4711 on couch). The rollback continues without the lock."
    assert (said in shell.err) == (rollout != ROLLOUT)
    with Journal.open(str(shell.journal)) as journal:
        assert [run.result for run in journal.runs(ROLLOUT)] == ["completed", "rolled_back"]


def test_a_journal_that_can_t_be_opened_refuses_what_goes_forward_and_nothing_else(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never")
    shell.journal.write_text("somebody's notes " * 100)
    before = len(shell.fleet.calls)

    for words in (("upgrade", NEW, "-y"), ("commit", "-y"), ("history",), ("show",)):
        assert shell(*words) == 2
        assert f"the journal {shell.journal} can't be opened: file is not a database" in shell.err
        assert "--journal" in shell.err
    assert len(shell.fleet.calls) == before

    assert shell("rollback", "-y") == 0
    assert "file is not a database. The rollback continues without a journal." in shell.err
    assert [host.phase() for host in shell.fleet.hosts.values()] == [Phase.OLD] * 4


@pytest.mark.parametrize(
    ("ask", "code", "phases"), [(Ask.UPGRADE, 3, {Phase.TRIAL, Phase.OLD}), (Ask.ROLLBACK, 0, {Phase.OLD})]
)
def test_a_journal_that_breaks_in_the_middle_stops_what_goes_forward_and_no_rollback(
    shell: Shell, ask: Ask, code: int, phases: set[Phase]
) -> None:
    """Another program makes the disk's last page its own, as it were: the first visit of this kind is the last entry."""
    words: Words = ("upgrade", NEW, "-y", *QUICK)
    if ask is Ask.ROLLBACK:
        shell(*words)
        words = ("rollback", "-y", "--parallel", "1")

    def meanwhile(task: HostTask) -> None:
        if task.request.ask is ask and not broken:
            broken.append(task.host.name)
            with sqlite3.connect(shell.journal) as other:
                other.execute("CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no room'); END")
            other.close()

    broken: list[str] = []
    shell.fleet.meanwhile = meanwhile

    assert shell(*words) == code

    assert broken == ["web-01"]
    assert {host.phase() for host in shell.fleet.hosts.values()} == phases
    assert f"the journal {shell.journal} can't be written: no room" in shell.err
    assert ("Halted: the journal" in shell.err) == (ask is Ask.UPGRADE)
    assert ("The rollback continues without it" in shell.err) == (ask is Ask.ROLLBACK)
    assert shell("history") == 0
    assert "running" in shell.out  # no end was written, and the process of the run is this one, which lives


def test_the_journal_may_be_named_on_the_command_line(shell: Shell, tmp_path: Path) -> None:
    other = tmp_path / "other" / "j.db"

    assert shell("upgrade", NEW, "-y", *QUICK, "--journal", str(other)) == 0

    assert not shell.journal.exists()
    assert shell("history", "--journal", f"sqlite:///{other}") == 0
    assert ROLLOUT in shell.out
