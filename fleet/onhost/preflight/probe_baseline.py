"""The probes asked of the running release: one that it fails itself can't speak against the new one.

A probe is an ordinary request to the running nginx, so its access log has a line of it (`fleet-probe`).
"""

from typing import List

from fleet.onhost.nginx.probe import ask
from fleet.onhost.preflight.subject import Subject
from fleet.onhost.protocol import Finding
from fleet.onhost.reasons.catalogue import finding


def fails_already(subject: Subject) -> List[Finding]:
    """The probes that the workers of the running master fail."""
    workers = [worker.pid for worker in subject.old.accepting]
    if not workers:
        return []
    found = []
    for number, probe in enumerate(subject.request.options.probes):
        answer = ask(subject.machine, probe, workers)
        if answer.problem:
            found.append(finding("probe_fails_already", number=number, problem=answer.problem, advice=answer.advice))
    return found
