"""`fleet unlock`: which run holds the journal's lock and each host's claim, and since when; `--force` releases them.

The lock keeps the runs of one journal apart; a claim keeps the runs of other journals off a host. Both expire by
themselves, and a rollback waits for neither.
"""

from functools import partial
from typing import Any

from fleet.environment import CommandOptions, Environment
from fleet.host import Host
from fleet.journal.journal import Journal
from fleet.journal.lock import Holder
from fleet.onhost.protocol import Ask, Outcome
from fleet.onhost.state.fence import claim_in_words
from fleet.rollout import results
from fleet.rollout.host_status import HostStatus
from fleet.rollout.policy import Policy
from fleet.rollout.rollout_status import RolloutStatus
from fleet.rollout.single_visit import decide_single_visit
from fleet.rollout.tasks import TaskBuilder
from fleet.runs.engine_run import command_output, confirm, initial_status, look_at, run_engine, selected_hosts
from fleet.runs.recording import sender
from fleet.ui.alarms import alarms
from fleet.ui.output import Output

SCHEMA = "fleet.locks/1"


def run(environment: Environment, options: CommandOptions, as_json: bool) -> int:
    """Prints the holders. Returns 0, or 4 if a host did not answer or could not be released."""
    output = command_output(options)
    hosts = selected_hosts(options, output) if options.inventories else ()
    with Journal.open(options.journal) as journal:
        lock = journal.lock(environment.operator(), "unlock")
        holder = lock.holder()
        look = look_at(environment, output, hosts, options, keeps=True) if hosts else initial_status("look", [])
        claimed = [host for host in look.all if host.report is not None and host.report.claim is not None]
        if as_json:
            output.document(document(journal, holder, look))
        else:
            _show(output, journal, holder, look)
        output.alarm(alarms(look))
        code = look.exit_code or results.OK
        if look.interrupted:
            return results.INTERRUPTED
        if not options.force or (holder is None and not claimed):
            return code
        confirm(environment, output, options, "Release them? A run that holds the journal's lock halts.")
        if holder is not None:
            lock.force_release()
        names = {host.name for host in claimed}
        released = (
            _release(environment, output, options, [host for host in hosts if host.name in names]) if claimed else None
        )
    bad = [host for host in released.all if host.last.outcome is not Outcome.DONE] if released else []
    output.say(
        f"Not released: {results.names(bad)}. See why: {options.typed.other('status').quoted}." if bad else "Released."
    )
    return results.PERSON if bad else code


def _release(environment: Environment, output: Output, options: CommandOptions, hosts: list[Host]) -> RolloutStatus:
    tasks = TaskBuilder(
        {host.name: host for host in hosts},
        environment.operator(),
        Policy(parallel=options.parallel),
        force=True,
        sender=sender(),
        connecting=options.connecting,
    )
    decide = partial(decide_single_visit, Ask.UNLOCK, options.parallel)
    return run_engine(environment, output, tasks, decide, initial_status("unlock", [hosts]), quiet=True)


def document(journal: Journal, holder: Holder | None, look: RolloutStatus) -> dict[str, Any]:
    """The document `fleet.locks/1`; `null` where no run holds the journal or the host."""
    return {
        "schema": SCHEMA,
        "journal": {"name": journal.display_name, "holder": holder and _holder(holder)},
        "hosts": [{"name": host.name, "claim": _claim(host), "error": _error(host)} for host in look.all],
    }


def _holder(holder: Holder) -> dict[str, Any]:
    return {
        "operator": holder.operator,
        "host": holder.process.host,
        "pid": holder.process.pid,
        "command": holder.command,
        "rollout": holder.rollout or None,
        "since": holder.since.isoformat(timespec="milliseconds"),
        "heartbeat": holder.beat.isoformat(timespec="milliseconds") if holder.beat else None,
        "expires": holder.expires.isoformat(timespec="milliseconds") if holder.expires else None,
    }


def _claim(host: HostStatus) -> dict[str, Any] | None:
    return dict(host.report.claim._asdict()) if host.report and host.report.claim else None


def _error(host: HostStatus) -> str | None:
    return None if host.report else host.last.message or "No answer."


def _show(output: Output, journal: Journal, holder: Holder | None, look: RolloutStatus) -> None:
    if holder is None:
        output.line(f"The journal {journal.display_name}: no run holds it.")
    else:
        beat = f", last heartbeat at {holder.beat:%H:%M:%S} UTC" if holder.beat else ""
        output.line(
            f"The journal {journal.display_name}: held by {holder.description} "
            f"since {holder.since:%F %H:%M:%S} UTC{beat}."
        )
    for host in look.all:
        claim = host.report.claim if host.report else None
        if claim is not None:
            output.line(f"{host.name}: {claim_in_words(claim)}.")
        elif host.report is None:
            output.line(f"{host.name}: {_error(host)}")
    if look.all and not any(_claim(host) for host in look.all):
        output.line("No host is claimed.")
