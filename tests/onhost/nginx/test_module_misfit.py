"""Modules that a binary can't load: nginx's own lines about real files, and what fleet makes of them."""

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from fleet.lab.releases.build import DEFAULT_BASE
from fleet.onhost.nginx.binary import complaint
from fleet.onhost.nginx.module_misfit import Misfit, read_misfit
from fleet.onhost.nginx.start_failures import why_it_ended
from tests.support.nginx_module import make_module

NEW = "the new binary"


class Build(NamedTuple):
    """The version of this machine's nginx, as text and as modules carry it, and the signature of its build."""

    version: str
    number: int
    signature: str


@pytest.fixture(scope="module")
def build() -> Build:
    binary = DEFAULT_BASE.read_bytes()
    version = re.findall(rb"nginx/(\d+\.\d+\.\d+)", binary)[0].decode()
    major, minor, patch = (int(part) for part in version.split("."))
    signature = re.findall(rb"\0(\d,\d,\d,[01]{30,})\0", binary)[0].decode()
    return Build(version, major * 1000000 + minor * 1000 + patch, signature)


def complaint_about(module: Path) -> str:
    """The line in which nginx rejects a configuration that loads this file."""
    given = f"load_module {module}; pid {module.parent}/pid; error_log stderr;"
    ran = subprocess.run(
        [DEFAULT_BASE, "-t", "-c", "/dev/null", "-g", given], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    return complaint(ran.stderr)


def misfit(module: Path) -> Misfit:
    found = read_misfit(complaint_about(module), NEW)
    assert found is not None
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ngx_http_lab_module.so"


def test_a_module_of_another_version_is_named_with_both_versions_and_what_to_put_there(
    path: Path, build: Build
) -> None:
    found = misfit(make_module(path, 1026002))

    assert found.module == str(path)
    assert found.why == f"it is for nginx 1.26.2, and the new binary is {build.version}"
    assert f"built together with the new binary there: copy it beside {path}" in found.cure


def test_a_module_of_another_build_is_named(path: Path, build: Build) -> None:
    found = misfit(make_module(path, build.number))

    assert (found.module, found.why) == (str(path), "it was built with other options than the new binary")


def test_a_module_that_the_binary_has_built_in_is_named_with_its_directive(path: Path, build: Build) -> None:
    found = misfit(make_module(path, build.number, build.signature, "ngx_core_module"))

    assert found.module == "ngx_core_module"
    assert "`load_module`" in found.cure


def test_a_file_that_is_no_module_is_named(path: Path) -> None:
    path.write_bytes(b"")
    assert misfit(path).why == "it can't be loaded (file too short)"

    path.unlink()
    assert "No such file or directory" in misfit(path).why

    path.write_bytes(make_module(path, 1).read_bytes().replace(b"\0ngx_modules\0", b"\0ngx_nothing\0"))
    assert misfit(path).why == "it is no module of nginx (it has no ngx_modules)"


def test_a_library_that_the_module_needs_is_not_taken_for_the_module() -> None:
    line = 'dlopen() "/m.so" failed (libGeoIP.so.1: cannot open shared object file: No such file or directory) in x:1'

    found = read_misfit(line, NEW)

    assert found is not None
    assert found.module == "/m.so"
    assert "libGeoIP.so.1" in found.why
    assert "`ldd /m.so`" in found.cure


@pytest.mark.parametrize(
    "line",
    [
        'nginx: [emerg] unknown directive "geoip_country" in /etc/nginx/nginx.conf:12',
        'nginx: [emerg] open() "/etc/nginx/modules/x.conf" failed (2: No such file or directory)',
        'nginx: [emerg] host not found in upstream "module" in /n.conf:3',
        "",
    ],
)
def test_another_complaint_is_about_no_module(line: str) -> None:
    assert read_misfit(line, NEW) is None
    assert [one.word for one in (why_it_ended(["nginx: [emerg] " + line], "", ""),) if one] == ["config_rejected"]


def test_a_start_that_it_ends_names_the_module_in_place_of_the_configuration(path: Path) -> None:
    found = why_it_ended([complaint_about(make_module(path, 1026002))], "", "")

    assert found is not None
    assert found.word == "module_incompatible"
    assert found.facts["module"] == str(path)
    assert str(found.facts["why"]).startswith("it is for nginx 1.26.2, ")
