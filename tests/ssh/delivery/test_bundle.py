"""The same files give the same bundle; it runs on every supported Python, with its own psutil."""

import ast
import json
import shutil
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import psutil
import pytest

import fleet.onhost
from fleet.onhost.protocol import PROTOCOL, Ask, Goal, Layout, Outcome, Reply, Request, Rest, Step
from fleet.onhost.wire import decode, encode
from fleet.ssh.delivery.bundle import GENERIC, ROOT_MAIN, Bundle, build, bundles, fitting, own_tag, psutil_files
from tests.support.onhost.pythons import Python, found_pythons

PACKAGE = Path(fleet.onhost.__file__).parent


def own_bundle() -> Bundle:
    tag = own_tag()
    assert tag is not None
    return bundles()[tag]


def run(python: Python, folder: Path, bundle: Bundle, request: Request | None = None) -> list[str]:
    """The lines that the bundle prints for the request, in a folder of its own, started as a host starts it."""
    path = folder / "fleet.pyz"
    path.write_bytes(bundle.data)
    command = [python.executable, "-I", "-S", "-B", "-W", "error", str(path)]
    given = encode(request) if request else ""
    return subprocess.run(command, input=given + "\n", capture_output=True, text=True, check=False).stdout.splitlines()


def stage(folder: Path) -> Request:
    """A request that needs psutil."""
    layout = Layout(pid_file=str(folder / "nginx.pid"), state_dir=str(folder / "state"))
    return Request(PROTOCOL, Ask.STAGE, "r-1", 1, "ann", Goal("ab" * 32, Rest.HELD), (Step.STAGE,), layout)


def outcome(lines: list[str]) -> Reply:
    """The last reply. Asserts that it is whole."""
    assert lines[-1] == "fleet-end"
    reply: Reply = decode(Reply, lines[-2])
    return reply


def test_the_same_files_give_the_same_bytes() -> None:
    files = dict(psutil_files())

    assert build("x", PACKAGE, files).data == build("x", PACKAGE, dict(reversed(files.items()))).data


def test_another_file_gives_another_key(tmp_path: Path) -> None:
    changed = tmp_path / "onhost"
    shutil.copytree(PACKAGE, changed, ignore=shutil.ignore_patterns("__pycache__"))
    with (changed / "protocol.py").open("a") as sink:
        sink.write("# another\n")

    assert build("x", changed).key != build("x", PACKAGE).key


def test_it_holds_the_step_script_an_empty_fleet_and_psutil_and_no_more() -> None:
    with zipfile.ZipFile(BytesIO(own_bundle().data)) as source:
        names = source.namelist()
        assert source.read("fleet/__init__.py") == b""

    assert names == sorted(names)
    assert "psutil-wheel/psutil/_psutil_linux.abi3.so" in names
    assert "psutil-wheel/psutil/LICENSE" in names
    assert [name for name in names if not name.startswith(("fleet/onhost/", "psutil-wheel/psutil/"))] == [
        "__main__.py",
        "fleet/__init__.py",
    ]
    assert not [name for name in names if "__pycache__" in name]


def test_visits_that_begin_at_once_share_one_bundle_store() -> None:
    """In a new process: what one visit fetches, the others must not fetch again."""
    script = (
        "from concurrent.futures import ThreadPoolExecutor as Pool; from fleet.ssh.delivery.bundle import bundles; "
        "print(len({id(found) for found in Pool(20).map(lambda _: bundles(), range(20))}))"
    )

    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert ran.stdout == "1\n"


def test_an_unknown_platform_gets_the_bundle_without_psutil() -> None:
    assert fitting("riscv64-musl", bundles()).tag == GENERIC
    with zipfile.ZipFile(BytesIO(bundles()[GENERIC].data)) as source:
        assert not [name for name in source.namelist() if name.startswith("psutil-wheel")]


def test_the_entry_script_parses_as_python_3_6() -> None:
    with pytest.raises(SyntaxError):  # the check does find what Python 3.6 can't parse
        ast.parse(f"{ROOT_MAIN}\n(newer := 3.8)\n", feature_version=(3, 6))

    assert isinstance(ast.parse(ROOT_MAIN, feature_version=(3, 6)), ast.Module)


@pytest.mark.parametrize("python", found_pythons(), ids=lambda python: python.version)
def test_it_starts_on_every_python_here(python: Python, tmp_path: Path) -> None:
    """Twice: the first run unpacks it, the second uses the unpacked bundle."""
    first, second = (run(python, tmp_path, own_bundle(), stage(tmp_path)) for _ in range(2))

    assert json.loads(first[0])["type"] == json.loads(second[0])["type"] == "hello"
    assert outcome(first).reason == outcome(second).reason == "release_missing"
    assert {path.name for path in tmp_path.iterdir()} >= {"fleet.pyz", "lib"}


@pytest.mark.parametrize("python", found_pythons()[:1], ids=lambda python: python.version)
def test_without_any_psutil_it_refuses_with_the_package_to_install(python: Python, tmp_path: Path) -> None:
    reply = outcome(run(python, tmp_path, bundles()[GENERIC], stage(tmp_path)))

    assert reply.outcome is Outcome.REFUSED
    assert reply.reason == "psutil_missing"
    assert "python3-psutil" in reply.remedy


@pytest.mark.parametrize("python", found_pythons()[:1], ids=lambda python: python.version)
def test_a_look_needs_no_psutil(python: Python, tmp_path: Path) -> None:
    look = stage(tmp_path)._replace(ask=Ask.LOOK, allowed=())

    assert outcome(run(python, tmp_path, bundles()[GENERIC], look)).outcome is Outcome.DONE


@pytest.mark.parametrize("files", [{}, {"psutil/_psutil_linux.abi3.so": b"not for this machine"}])
def test_the_host_s_own_psutil_is_used_where_the_bundle_s_cannot_be(tmp_path: Path, files: dict[str, bytes]) -> None:
    """It lies in site-packages, which Python is started without."""
    subprocess.run([found_pythons()[-1].executable, "-m", "venv", "--without-pip", tmp_path / "own"], check=True)
    (site,) = (tmp_path / "own" / "lib").glob("*/site-packages")
    shutil.copytree(Path(psutil.__file__).parent, site / "psutil")
    broken = {**dict(psutil_files()), **files} if files else None

    lines = run(
        Python("", str(tmp_path / "own" / "bin" / "python")), tmp_path, build("x", PACKAGE, broken), stage(tmp_path)
    )

    assert outcome(lines).reason == "release_missing"


@pytest.mark.parametrize("python", found_pythons()[:1], ids=lambda python: python.version)
def test_a_psutil_that_cannot_be_loaded_is_no_crash(python: Python, tmp_path: Path) -> None:
    broken = {**dict(psutil_files()), "psutil/_psutil_linux.abi3.so": b"not for this machine"}

    assert outcome(run(python, tmp_path, build("x", PACKAGE, broken), stage(tmp_path))).reason == "psutil_missing"


@pytest.mark.parametrize("python", found_pythons()[:1], ids=lambda python: python.version)
def test_visits_that_unpack_at_once_never_see_a_partial_bundle(python: Python, tmp_path: Path) -> None:
    path = tmp_path / "fleet.pyz"
    path.write_bytes(own_bundle().data)
    at_once = [
        subprocess.Popen([python.executable, "-I", "-B", path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        for _ in range(3)
    ]

    answers = [process.communicate()[0] for process in at_once]

    assert all(b'"hello"' in answer for answer in answers), "each read the end of its stdin"
    assert sorted(found.name for found in tmp_path.iterdir()) == ["fleet.pyz", "lib"]
