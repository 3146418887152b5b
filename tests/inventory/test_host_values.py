"""A value that is taken as it is written is the one that pydantic gives; all others are left to it."""

import subprocess
import sys
from pathlib import Path

import pytest

from fleet.inventory.host_values import KNOWN, plain_values
from fleet.inventory.host_variables import HostVariables, checked
from fleet.inventory.tree import Origin, Variable
from tests.support.places import ROOT

VALUES: tuple[object, ...] = (
    *("web-01", "192.0.2.7", "2001:db8::7", "::1", "a b", "-x", "", " ", "a/b", "x" * 300, "wéb", "a\nb", "web-01\n"),
    *(1, 22, 65535, 65536, 0, -1, 22.0, 22.5, "22", " 22 ", "1_000", "0x16", True, False, "true", "no", "on", 10**30),
    *(
        "deploy",
        "a@b",
        "root",
        "Root",
        "o'neil",
        "sudo",
        "doas",
        "su",
        "ansible.builtin.sudo",
        "community.general.doas",
    ),
    *(
        "/usr/sbin/nginx",
        "/usr/sbin/",
        "/",
        "//",
        "usr/sbin",
        "~/nginx",
        "auto",
        "auto_silent",
        "python3",
        "/usr/bin/python3",
    ),
    *("bin/python3", "ssh", "smart", "-o X=y", "none", [], {}, [1], {"a": 1}, 1e400, b"bytes"),
    *([{"url": "http://127.0.0.1/"}], [{"url": "http://127.0.0.1/", "status": "204"}], [{"url": "ftp://x"}], ({},)),
)


@pytest.mark.parametrize("name", KNOWN)
def test_a_plain_value_is_the_one_that_pydantic_gives(name: str) -> None:
    taken = 0
    for value in VALUES:
        known = {name: Variable(value, str(value), Origin(Path("hosts.yaml"), 1))}
        plain, (exact, problems) = plain_values(known), checked(known, {name: name})
        taken += plain is not None
        if plain is not None:
            assert (plain, problems) == (exact, ()), value
            assert type(getattr(plain, name)) is type(getattr(exact, name)), value

    assert taken > 0 or name == "fleet_probes"


def test_the_values_are_the_fields_of_the_model() -> None:
    assert tuple(HostVariables.model_fields) == KNOWN


@pytest.mark.parametrize(("port", "loads"), [("22", False), ("'22'", True)])
def test_a_plainly_written_inventory_does_not_load_pydantic(port: str, loads: bool, tmp_path: Path) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_text(
        "all:\n  vars: {ansible_user: deploy, fleet_ssh_config: none, nginx_pid_file: /run/nginx.pid}\n"
        f"  hosts:\n    web-[1:9]: {{ansible_port: {port}, ansible_become: true, zone: eu}}\n"
    )
    code = (
        "import sys; from pathlib import Path; from fleet.inventory import load\n"
        "hosts = load([Path(sys.argv[1])]).select(())\n"
        "print(len(hosts), {host.port for host in hosts}, 'pydantic' in sys.modules)"
    )

    ran = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, check=True)

    assert ran.stdout == f"9 {{22}} {loads}\n"
