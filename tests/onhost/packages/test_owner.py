"""Which package owns nginx's file. dpkg is asked on this machine, rpm's answer is recorded, the others are made by hand."""

import subprocess
from pathlib import Path

import pytest

from fleet.onhost.packages.owner import DPKG_FORMAT, RPM_FORMAT, Manager, Owner, owner_of
from fleet.onhost.system.machine import Machine, Ran
from tests.support.onhost.recorded import PATH, RecordedMachine

STATUS, RPMDB, APKDB = "/var/lib/dpkg/status", "/usr/lib/sysimage/rpm/rpmdb.sqlite", "/lib/apk/db/installed"
MD5 = "1d183eea1b6e00d012acf4045eb34395"
SHA256 = "58eaf5a78d580f5dbd49d31a5b733094169b31bfdf49055b74bcac2877d8f58c"


def dpkg(search: str, name: str = PATH, want: str = "install") -> RecordedMachine:
    """A Debian host whose `dpkg-query -S` prints this."""
    runs = {
        ("dpkg-query", "-S", name): search,
        ("dpkg-query", "-W", "-f=" + DPKG_FORMAT, "nginx"): f"nginx\t1.22.1-9+deb12u9\t{want}\n",
        ("dpkg-query", "--control-show", "nginx", "md5sums"): f"{MD5}  usr/sbin/nginx\n{'0' * 32}  usr/share/x\n",
    }
    return RecordedMachine(texts={STATUS: ""}, runs={argv: Ran(0, output, 0.1) for argv, output in runs.items()})


# Recorded from rpm 4.18 (Debian 12's) and a package that was built for it; a folder has no checksum.
RPM_ANSWER = f"nginx-core\t2:1.20.1-22.el9\t1796112389\n/usr/sbin/nginx\t{SHA256}\n/usr/share/doc/nginx-core\t\n"


def rpm(**texts: str) -> RecordedMachine:
    ran = Ran(0, RPM_ANSWER, 0.1)
    return RecordedMachine(texts={RPMDB: "", **texts}, runs={("rpm", "-qf", "--queryformat", RPM_FORMAT, PATH): ran})


def test_dpkg_names_the_package_its_version_and_the_checksum_of_its_file() -> None:
    assert owner_of(dpkg(f"nginx: {PATH}\n"), PATH) == Owner(Manager.DPKG, "nginx", "1.22.1-9+deb12u9", MD5)


def test_a_package_of_an_architecture_and_of_a_merged_usr_is_found() -> None:
    """The package lists /sbin/nginx, and its checksums say usr/sbin/nginx."""
    machine = dpkg("nginx:amd64: /sbin/nginx\n", "/sbin/nginx")

    assert owner_of(machine, PATH) == Owner(Manager.DPKG, "nginx", "1.22.1-9+deb12u9", MD5)


def test_a_package_on_hold_is_known() -> None:
    owner = owner_of(dpkg(f"nginx: {PATH}\n", want="hold"), PATH)

    assert owner is not None
    assert owner.on_hold


def test_a_file_that_a_person_diverted_is_of_no_package() -> None:
    said = f"local diversion from: {PATH}\nlocal diversion to: {PATH}.distrib\nnginx: {PATH}\n"

    assert owner_of(dpkg(said), PATH) is None


def test_a_file_that_a_package_diverted_is_of_that_package() -> None:
    """The other package's file lies at another name then."""
    said = f"diversion by nginx from: {PATH}\ndiversion by nginx to: {PATH}.distrib\nangie, nginx:amd64: {PATH}\n"

    owner = owner_of(dpkg(said), PATH)

    assert owner is not None
    assert owner.package == "nginx"


def test_rpm_names_the_package_the_checksum_and_when_it_was_installed() -> None:
    assert owner_of(rpm(), PATH) == Owner(
        Manager.RPM, "nginx-core", "2:1.20.1-22.el9", SHA256, installed_at_s=1796112389.0
    )


@pytest.mark.parametrize(
    ("line", "locked"),
    [
        ("nginx-core-2:1.20.1-22.el9.*", True),
        ("2:nginx-core-1.20.1-22.el9.*", True),
        ('name = "nginx-core"', True),
        ("nginx-core-mod-http-perl-2:1.20.1-22.el9.*", False),
        ("# nginx-core-2:1.20.1", False),
    ],
)
def test_a_package_in_the_list_of_versionlock_is_on_hold(line: str, locked: bool) -> None:
    owner = owner_of(rpm(**{"/etc/dnf/plugins/versionlock.list": f"# Added\n{line}\n"}), PATH)

    assert owner is not None
    assert owner.on_hold is locked


@pytest.mark.parametrize(("world", "held"), [("nginx=1.26.2-r0", True), ("nginx", False)])
def test_apk_names_the_package_and_its_version(world: str, held: bool) -> None:
    said = Ran(0, "/usr/sbin/nginx is owned by nginx-1.26.2-r0\n", 0.1)
    machine = RecordedMachine(
        texts={APKDB: "", "/etc/apk/world": f"musl\n{world}\n"}, runs={("apk", "info", "--who-owns", PATH): said}
    )

    assert owner_of(machine, PATH) == Owner(Manager.APK, "nginx", "1.26.2-r0", on_hold=held)


def test_without_a_database_no_program_is_run() -> None:
    machine = RecordedMachine()

    assert owner_of(machine, PATH) is None
    assert machine.ran == []


def test_debian_itself_says_that_its_nginx_is_a_package_and_has_its_checksum() -> None:
    owner = owner_of(Machine(), PATH)
    version = subprocess.run(
        ["dpkg-query", "-W", "-f=${Version}", "nginx"], capture_output=True, text=True, check=True
    ).stdout

    assert owner is not None
    assert (owner.manager, owner.package, owner.version) == (Manager.DPKG, "nginx", version)
    assert owner.digest == Machine().md5(str(Path(PATH)))
    assert owner_of(Machine(), "/usr/local/nothing") is None
