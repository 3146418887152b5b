"""A unit as `systemctl show` prints it."""

import pytest

from fleet.onhost.systemd.unit import read_show, read_unit, unit_of

DEBIAN = """\
Type=forking
PIDFile=/run/nginx.pid
MainPID=46
NRestarts=2
KillMode=mixed
ExecReload={ path=/usr/sbin/nginx ; argv[]=/usr/sbin/nginx -g daemon on; master_process on; -s reload ; ignore_errors=no }
ExecReload={ path=/bin/true ; argv[]=/bin/true ; ignore_errors=no }
Restart=no
TimeoutStopUSec=5s
RefuseManualStop=yes
NotifyAccess=all
Id=nginx.service
ActiveState=active
FragmentPath=/lib/systemd/system/nginx.service
DropInPaths=/etc/systemd/system/nginx.service.d/a.conf /run/systemd/system/nginx.service.d/zz-fleet.conf
"""


@pytest.mark.parametrize(
    ("cgroups", "name"),
    [
        ("0::/system.slice/nginx.service\n", "nginx.service"),
        ("12:pids:/x\n1:name=systemd:/system.slice/system-nginx.slice/nginx@a.service\n0::/\n", "nginx@a.service"),
        ("0::/system.slice/system-web\\x2dfront.slice/web\\x2dfront@a.service\n", "web\\x2dfront@a.service"),
        ("0::/user.slice/user-0.slice/session-3.scope\n", None),
        ("9:name=systemd:/\n0::/\n", None),
        ("", None),
    ],
)
def test_the_unit_is_read_from_the_control_group(cgroups: str, name: str | None) -> None:
    assert unit_of(cgroups) == name


def test_a_unit_is_read_with_its_files_and_each_of_its_commands() -> None:
    unit = read_unit(DEBIAN)

    assert unit is not None
    assert (unit.name, unit.main_pid, unit.restarts, unit.kill_mode) == ("nginx.service", 46, 2, "mixed")
    assert (unit.refuses_stop, unit.hears_all, unit.is_outdated, unit.owns_nginx) == (True, True, False, True)
    assert len(unit.reload.splitlines()) == 2
    assert len(unit.files) == 3


def test_what_an_older_systemd_does_not_know_is_as_if_it_were_off() -> None:
    unit = read_unit("Id=nginx.service\nType=oneshot\nRemainAfterExit=yes\n")

    assert unit is not None
    assert (unit.main_pid, unit.no_exec_paths, unit.owns_nginx, unit.has_main) == (0, "", True, False)


@pytest.mark.parametrize("output", ["", "MainPID=4\n", "Id=nginx.service\nMainPID=x\n", "Failed to connect to bus\n"])
def test_output_that_shows_no_unit_is_none(output: str) -> None:
    assert read_unit(output) is None


def test_a_property_that_is_printed_twice_has_two_lines() -> None:
    assert read_show("A=1\nB=x=y\nA=2\nno property\n") == {"A": "1\n2", "B": "x=y"}
