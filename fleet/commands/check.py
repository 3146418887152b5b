"""`fleet check RELEASE`: preflight on every host. Stages the release there, unless told not to; nothing that runs changes."""

from functools import partial

from fleet.commands.release import target_of
from fleet.commands.run import carry_out, hosts_of, output_of, unbegun
from fleet.console import findings_table
from fleet.onhost.protocol import Ask, Severity
from fleet.rollout import ending
from fleet.rollout.errands import decide_ask
from fleet.rollout.policy import Policy
from fleet.rollout.requests import Requests
from fleet.rollout.status import RolloutStatus
from fleet.world import Asked, World

SCHEMA = "fleet.check/1"


def run(world: World, asked: Asked, release: str, *, may_stage: bool, allow: tuple[str, ...], as_json: bool) -> int:
    """The findings are on stdout. 0 when every host can be upgraded, else 2."""
    output = output_of(asked)
    hosts = hosts_of(asked)
    target, words = target_of(world, output, asked, hosts, release)
    output.say(f"check {words} on {ending.several(len(hosts))}" + (" (staged there)" if may_stage else " (not staged)"))
    policy = Policy(parallel=asked.parallel, allow=allow)
    names = {host.name: host for host in hosts}
    requests = Requests(names, world.operator(), policy, target, may_stage=may_stage)
    start = unbegun(world.rollout_id(world.clock()()), [hosts])
    decide = partial(decide_ask, Ask.STAGE, asked.parallel)
    status = carry_out(world, output, requests, decide, start, quiet=as_json, message=f"check {words}")
    if as_json:
        output.document(document(status))
    else:
        output.result(findings_table(status.all))
    output.say(status.message)
    return status.exit_code or ending.OK


def document(status: RolloutStatus) -> dict[str, object]:
    """Every host with all of its findings."""
    return {
        "schema": SCHEMA,
        "hosts": [
            {
                "name": host.name,
                "can_be_upgraded": host.fault is None,
                "reason": host.reason,
                "message": host.message,
                "findings": [
                    {**found._asdict(), "severity": found.severity.value, "refuses": found.severity is Severity.REFUSAL}
                    for found in host.findings
                ],
            }
            for host in status.all
        ],
    }
