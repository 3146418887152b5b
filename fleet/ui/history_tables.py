"""`fleet history` and `fleet show`: the list of rollouts, and one rollout with its runs, as text and as JSON documents.

Pure functions of the journal's summaries and events. Times are UTC. Later versions may add keys to the documents; they
never change the meaning of a key.
"""

import json
import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Group
from rich.text import Text

from fleet.events import Event
from fleet.journal.run_summary import RolloutSummary, Run, RunState
from fleet.onhost.text import counted, safe
from fleet.plan import duration_in_words
from fleet.rollout.policy import OnFailure, Policy, Rehearse
from fleet.ui.event_lines import plain_line
from fleet.ui.host_text import elapsed, version

SCHEMA, SHOW_SCHEMA = "fleet.history/1", "fleet.show/1"
HEAD = ("command", "began (UTC)", "took", "operator")
STYLES = {"completed": "green", "rolled_back": "blue", "halted": "red", "interrupted": "red"}


def rollout_list(summaries: Sequence[RolloutSummary]) -> Group:
    """A line for each rollout, and below it one for each of its runs, in columns that fit 80 characters."""
    rows = {run.run: _row(run) for summary in summaries for run in summary.runs}
    widths = [max(map(len, column)) for column in zip(HEAD, *rows.values(), strict=True)]
    lines = [Text("  " + _in_columns(HEAD, widths) + "  result", style="bold")]
    for summary in summaries:
        about = f"{version(summary.fact('release_version'), summary.fact('release'))}, {counted(summary.first.hosts)}"
        lines.append(Text(safe(f"{summary.rollout}  release {about}"), style="bold"))
        for run in summary.runs:
            result = STYLES.get(run.result or "", "yellow" if run.state is RunState.RUNNING else "red")
            before = "  " + _in_columns(rows[run.run], widths) + "  "
            lines.append(Text(before).append(result_words(run), style=result))
    return Group(*lines)


def _row(run: Run) -> tuple[str, ...]:
    operator = safe(run.facts.get("operator", "?"), 40)
    return run.command, f"{run.began.at:%F %H:%M:%S}", elapsed(run.took_s), operator


def _in_columns(words: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(word.ljust(width) for word, width in zip(words, widths, strict=True))


def result_words(run: Run) -> str:
    """The result of a run, or its state if it has no result."""
    if run.state is RunState.RUNNING:
        return "running"
    if run.result is None:
        return "interrupted (no end recorded)"
    code = f" (exit code {run.exit_code})" if run.exit_code else ""
    return safe(run.result.replace("_", " ") + code)


def document(summaries: Sequence[RolloutSummary]) -> dict[str, Any]:
    """The document `fleet.history/1`."""
    return {"schema": SCHEMA, "rollouts": [_rollout_document(summary) for summary in summaries]}


def _rollout_document(summary: RolloutSummary) -> dict[str, Any]:
    return {
        "rollout": summary.rollout,
        "began": _moment(summary.first.began),
        "operator": summary.first.facts.get("operator"),
        "release": summary.fact("release"),
        "release_version": summary.fact("release_version"),
        "hosts": summary.first.hosts,
        "result": summary.last.result,
        "exit_code": summary.last.exit_code,
        "stands": summary.last.state.value,
        "runs": [_run_document(run) for run in summary.runs],
    }


def _run_document(run: Run) -> dict[str, Any]:
    return {
        "command": run.command,
        "began": _moment(run.began),
        "took_s": round(run.took_s, 3),
        "operator": run.facts.get("operator"),
        "hosts": run.hosts,
        "result": run.result,
        "exit_code": run.exit_code,
        "stands": run.state.value,
        "message": run.ended.message if run.ended else None,
    }


def _moment(event: Event) -> str:
    return str(json.loads(event.to_json())["at"])


def show_document(recorded: Sequence[tuple[Run, Sequence[Event]]], hosts: Iterable[str]) -> dict[str, Any]:
    """The document `fleet.show/1`: one rollout, its own hosts, its runs, and the events of each run as `fleet.event/1`."""
    runs = [
        {**_run_document(run), "events": [json.loads(event.to_json()) for event in events]} for run, events in recorded
    ]
    return {"schema": SHOW_SCHEMA, "rollout": recorded[0][0].rollout, "hosts": list(hosts), "runs": runs}


def heading(summary: RolloutSummary, run: Run) -> Iterator[str]:
    """The lines above a run: operator, release, times, result, plan and policy."""
    facts = run.facts
    yield f"fleet {run.command} by {safe(facts.get('operator', '?'))}: {_release(summary, run)}"
    yield f"began {run.began.at:%F %H:%M:%S} UTC, took {elapsed(run.took_s)}: {_result_and_place(run)}"
    batches = facts.get("batches", ())
    yield f"{counted(run.hosts)} in {counted(len(batches), 'batch', 'batches')}:"
    for number, names in enumerate(batches, 1):
        yield safe(f"  {number}. {', '.join(names)}")
    policy = Policy.from_plain(facts.get("policy", {}))
    if options := _options(policy) if run.command in ("upgrade", "resume") else _allowed(policy):
        yield f"options: {options}"


def _result_and_place(run: Run) -> str:
    """The result of a run; for a live run, machine and pid of its process."""
    if run.state is not RunState.RUNNING:
        return result_words(run)
    controller = run.facts.get("controller", {})
    return safe(f"running on {controller.get('host', '?')}, pid {controller.get('pid', '?')}")


def _release(summary: RolloutSummary, run: Run) -> str:
    sha256, number = run.facts.get("release"), summary.fact("release_version")
    path = f", {run.facts['release_path']}" if run.facts.get("release_path") else ""
    short = str(sha256 or "?")[:12]
    return safe(f"nginx {number} ({short}{path})" if number else f"release {short}{path}")


def _options(policy: Policy) -> str:
    """The policy as the options that set it; `max_failures` is the number that the plan made of it."""
    hold = " --hold-package" if policy.hold_package else ""
    rehearse = "" if policy.rehearse is Rehearse.AUTO else f" --rehearse {policy.rehearse.value}"
    guard = "" if policy.guard else " --no-guard"
    budget = "" if policy.on_failure is OnFailure.CONTINUE else f" --max-failures {policy.max_failures}"
    return (
        f"--bake {duration_in_words(policy.bake_s)} --parallel {policy.parallel} --on-failure {policy.on_failure.value}"
        f"{budget} --commit {policy.commit.value}{rehearse}{guard}{hold} {_allowed(policy)}"
    ).rstrip()


def _allowed(policy: Policy) -> str:
    return safe(" ".join(f"--allow {shlex.quote(reason)}" for reason in policy.allow))


def lines(events: Sequence[Event]) -> Iterator[str]:
    """The events as plain lines, without those that only programs need."""
    for event in events:
        line = plain_line(event)
        if line is not None:
            yield line
