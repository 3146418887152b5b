"""The running release is asked the probes before anything else is: on a real nginx."""

from collections.abc import Iterator

import pytest

from fleet.onhost.observation import Worker
from fleet.onhost.preflight.probe_baseline import fails_already
from fleet.onhost.protocol import Finding, Options, Probe, Severity
from fleet.onhost.system.machine import Machine
from tests.support.onhost.recorded import RecordedMachine, a_master, a_request, a_subject
from tests.support.private_nginx import PrivateNginx


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateNginx]:
    folder = tmp_path_factory.mktemp("nginx")
    found = PrivateNginx(folder, more=f"listen unix:{folder}/p.sock proxy_protocol;").start_well()
    yield found
    found.end()


def judged(nginx: PrivateNginx, *probes: Probe) -> list[Finding]:
    workers = tuple(Worker(pid, 1, False, True) for pid in nginx.workers(nginx.master()))
    request = a_request()._replace(options=Options(probes=probes))
    return fails_already(a_subject(Machine(), a_master(nginx.master(), workers=workers), request=request))


def test_probes_that_the_running_release_answers_are_no_finding(nginx: PrivateNginx) -> None:
    teapot = Probe(f"http://{nginx.target}/teapot", status=418)
    proxied = Probe(f"http://unix:{nginx.folder}/p.sock:/health", contains="ok", proxy_protocol=True)

    assert judged(nginx) == []
    assert judged(nginx, Probe(f"http://{nginx.target}/health"), teapot, proxied) == []


def test_each_probe_that_fails_is_named_with_the_answer_and_what_in_it_may_be_wrong(nginx: PrivateNginx) -> None:
    good = Probe(f"http://{nginx.target}/health")
    found = judged(
        nginx,
        good._replace(status=204),
        good,
        Probe(f"http://unix:{nginx.folder}/p.sock:/health"),
        Probe("http://127.0.0.1:1/"),
    )

    assert {one.reason for one in found} == {"probe_fails_already"}
    assert {(one.severity, one.overridable) for one in found} == {(Severity.REFUSAL, True)}
    status, proxied, nowhere = found
    assert f"`fleet_probes[0]`: http://{nginx.target}/health: answered 200 instead of 204" in status.message
    assert "set `status: 200`" in status.remedy
    assert "`fleet_probes[2]`: http://unix:" in proxied.message
    assert "no answer (Remote end closed connection without response)" in proxied.message
    assert "add `proxy_protocol: true`" in proxied.remedy
    assert "`fleet_probes[3]`: http://127.0.0.1:1/: Connection refused" in nowhere.message


def test_a_master_without_accepting_workers_is_asked_nothing() -> None:
    request = a_request()._replace(options=Options(probes=(Probe("http://127.0.0.1:1/"),)))

    assert fails_already(a_subject(RecordedMachine(), a_master(workers=()), request=request)) == []
