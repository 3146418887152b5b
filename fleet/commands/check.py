"""`fleet check RELEASE`: preflight on every host, with the release staged there unless `--no-stage`."""

from dataclasses import replace
from functools import partial

from fleet.environment import CommandOptions, Environment
from fleet.onhost.protocol import Ask, Severity
from fleet.onhost.text import counted
from fleet.rollout import results
from fleet.rollout.policy import Policy, Rehearse
from fleet.rollout.rollout_status import RolloutStatus
from fleet.rollout.single_visit import decide_single_visit
from fleet.rollout.tasks import TaskBuilder
from fleet.runs.allow_option import parse_allow
from fleet.runs.engine_run import command_output, initial_status, run_engine, selected_hosts
from fleet.runs.release_argument import find_target
from fleet.ui.alarms import alarms
from fleet.ui.result_tables import findings_table

SCHEMA = "fleet.check/1"


def run(
    environment: Environment,
    options: CommandOptions,
    release: str,
    *,
    may_stage: bool,
    allow: tuple[str, ...],
    rehearse: str,
    as_json: bool,
) -> int:
    """Prints the findings. Returns 0 if every host can be upgraded, else 2."""
    output = command_output(options)
    policy = Policy(parallel=options.parallel, allow=parse_allow(allow), rehearse=Rehearse(rehearse))
    hosts = selected_hosts(options, output)
    target, words = find_target(environment, output, options, hosts, release)
    how = "The release is staged on the hosts" if may_stage else "The release is not staged"
    output.say(f"Checking {words} on {counted(len(hosts))}. {how}; nothing that runs changes.")
    names = {host.name: host for host in hosts}
    tasks = TaskBuilder(
        names, environment.operator(), policy, target, may_stage=may_stage, connecting=options.connecting
    )
    start = replace(initial_status(environment.rollout_id(environment.clock()()), [hosts]), typed=options.typed)
    decide = partial(decide_single_visit, Ask.STAGE, options.parallel, is_staged=may_stage)
    status = run_engine(environment, output, tasks, decide, start, quiet=as_json, message=f"check {words}")
    if as_json:
        output.document(document(status, may_stage))
    else:
        output.result(findings_table(status.all, may_stage))
    output.say(status.message)
    output.alarm(alarms(status))
    return status.exit_code or results.OK


def document(status: RolloutStatus, is_staged: bool) -> dict[str, object]:
    """The document `fleet.check/1`. Without staging, `can_be_upgraded` is false or null, because the release was not tried."""
    fit = True if is_staged else None
    return {
        "schema": SCHEMA,
        "hosts": [
            {
                "name": host.name,
                "can_be_upgraded": fit if host.fault is None else False,
                "reason": host.last.reason,
                "message": host.last.message,
                "findings": [
                    {**found._asdict(), "severity": found.severity.value, "refuses": found.severity is Severity.REFUSAL}
                    for found in host.findings
                ],
                "rehearsal": host.report.rehearsal._asdict() if host.report and host.report.rehearsal else None,
            }
            for host in status.all
        ],
    }
