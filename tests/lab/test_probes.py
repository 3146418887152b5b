"""Probes from the inventory to the verdict: a wrong one is refused by `check`, before a release is blamed for it."""

from pathlib import Path

import pytest

from fleet.lab.lab import Lab
from fleet.lab.releases.build import DEFAULT_BASE, make_release
from tests.lab.conftest import MakeLab
from tests.support.lab.operator import Ran, fleet, look, sha256

KINDS = {"lab-001": "proxy-protocol", "lab-002": "unix-socket", "lab-003": "sick"}
BASE = sha256(DEFAULT_BASE)


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(len(KINDS), KINDS)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release("new", tmp_path_factory.mktemp("release") / "nginx")


def probing(lab: Lab, folder: Path, probe: str) -> Path:
    """The lab's inventory with this probe instead of its own."""
    text = lab.inventory.read_text()
    own = text[text.index("    fleet_probes:") : text.index("  hosts:")]
    inventory = folder / "hosts.yaml"
    inventory.write_text(text.replace(own, f"    fleet_probes: [{probe}]\n"))
    return inventory


def there_and_back(lab: Lab, host: str, release: Path, inventory: Path, *more: str) -> tuple[Ran, Ran]:
    """An upgrade of the host, and its rollback."""
    ran = fleet(
        lab, "upgrade", str(release), "-y", "--bake", "0s", "--settle", "500ms", "-l", host, *more, inventory=inventory
    )
    return ran, fleet(lab, "rollback", "-y", "-l", host, inventory=inventory)


def is_as_before(lab: Lab, host: str) -> bool:
    seen = look(next(one for one in lab.hosts if one.name == host))
    return seen.running_sha256 == seen.path_sha256 == BASE


@pytest.mark.parametrize(
    ("host", "probe", "answer", "advice"),
    [
        ("lab-001", '{url: "http://127.0.0.1/health"}', "no answer (", "add `proxy_protocol: true`"),
        (
            "lab-002",
            '{url: "http://unix:/run/nginx.sock:/health", proxy_protocol: true}',
            "answered 400 instead of 200",
            "remove `proxy_protocol`",
        ),
        ("lab-002", '{url: "http://unix:/run/other.sock:/health"}', "No such file or directory", "ss -lnp"),
        ("lab-003", '{url: "http://127.0.0.1/health"}', "answered 503 instead of 200", "set `status: 503`"),
    ],
)
def test_check_refuses_a_probe_that_the_running_release_fails(
    lab: Lab, release: Path, tmp_path: Path, host: str, probe: str, answer: str, advice: str
) -> None:
    inventory = probing(lab, tmp_path, probe)
    before = {one.name: look(one) for one in lab.hosts}

    for command in (("check", str(release)), ("upgrade", str(release), "-y")):
        ran = fleet(lab, *command, "-l", host, inventory=inventory)

        assert ran.code == 2, ran.said
        text = " ".join(ran.said.split())
        assert "probe_fails_already" in text
        assert answer in text
        assert advice in text
    assert {one.name: look(one) for one in lab.hosts} == before


@pytest.mark.parametrize(
    ("host", "probe"),
    [
        ("lab-001", '{url: "http://127.0.0.1/health", proxy_protocol: true}'),
        ("lab-002", '{url: "http://unix:/run/nginx.sock:/health"}'),
        ("lab-002", '{url: "http://unix:/run/nginx.sock", contains: nginx/}'),
    ],
)
def test_a_probe_of_what_nginx_listens_on_leads_to_an_upgrade(
    lab: Lab, release: Path, tmp_path: Path, host: str, probe: str
) -> None:
    there, back = there_and_back(lab, host, release, probing(lab, tmp_path, probe))

    assert (there.code, back.code) == (0, 0), there.said + back.said
    assert is_as_before(lab, host)


def test_an_allowed_failure_does_not_count(lab: Lab, release: Path, tmp_path: Path) -> None:
    inventory = probing(lab, tmp_path, '{url: "http://127.0.0.1/health"}')

    there, back = there_and_back(lab, "lab-003", release, inventory, "--allow", "probe-fails-already")

    assert (there.code, back.code) == (0, 0), there.said + back.said
    assert "does not count in this rollout" in " ".join(there.said.split())
    assert is_as_before(lab, "lab-003")
