"""Runs on a lab host: preflight of the nginx that is there, asked in JSON on stdin and answered in JSON on stdout."""

import json
import os
import sys

from fleet.onhost.instance import Instance
from fleet.onhost.preflight.checks import preflight
from fleet.onhost.protocol import PROTOCOL, Ask, Goal, Layout, Options, Probe, Request, Rest, Step
from fleet.onhost.system.machine import Machine
from fleet.onhost.visit.locate import locate
from fleet.onhost.wire import encode


def main() -> None:
    asked = json.load(sys.stdin)
    if asked["uid"]:
        os.setuid(asked["uid"])
    machine = Machine()
    layout = locate(machine, Layout(pid_file=asked["pid_file"]))
    instance = Instance.at(machine, layout)._replace(kept=None)
    goal = Goal((asked["staged"] and machine.sha256(asked["staged"])) or "0" * 64, Rest.HELD)
    probes = tuple(Probe(url) for url in asked["probes"])
    options = Options(allow=tuple(asked["allow"]), probes=probes, rehearse=asked["rehearse"], guard=asked["guard"])
    request = Request(PROTOCOL, Ask.STAGE, "r1", 1, "ada", goal, (Step.STAGE,), layout, options)
    found = preflight(instance, request, instance.look(), asked["staged"]).findings
    print(json.dumps([json.loads(encode(one)) for one in found]))


if __name__ == "__main__":
    main()
