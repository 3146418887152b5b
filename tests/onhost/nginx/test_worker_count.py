"""How many workers nginx would start: by its configuration, and by the processors as its C library counts them."""

import struct

import pytest

from fleet.onhost.nginx.config_files import ConfigFiles
from fleet.onhost.nginx.worker_count import WorkerCount, numbers, processors, worker_count
from tests.support.onhost.recorded import PATH, RecordedMachine, a_master

ONLINE = "/sys/devices/system/cpu/online"


def counted(text: str, online: str = "0-3", directives: tuple[str, ...] = ()) -> WorkerCount | None:
    host = RecordedMachine(texts={ONLINE: online})
    return worker_count(host, a_master(argv=(PATH, *directives)), ConfigFiles((("/n.conf", text),)), PATH)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("worker_processes 3;", WorkerCount(3)),
        ("worker_processes  auto ;", WorkerCount(4, by_processors=True)),
        ("events {}", WorkerCount(1)),
        ("# worker_processes 8;", WorkerCount(1)),
        ("worker_processes many;", None),
        ("worker_processes 2; http { content_by_lua_block {\nworker_processes 9;\n} }", None),
    ],
)
def test_the_number_is_given_or_counted_or_else_not_known(text: str, found: WorkerCount | None) -> None:
    assert counted(text) == found


def test_a_directive_of_the_command_line_counts_too() -> None:
    assert counted("events {}", directives=("-g", "worker_processes", "5;")) == WorkerCount(5)
    assert counted("worker_processes 2;", directives=("-g", "worker_processes", "5;")) is None


def test_a_configuration_that_was_not_read_tells_no_number() -> None:
    partly = ConfigFiles((("/n.conf", "worker_processes 2;"),), complete=False)

    assert worker_count(RecordedMachine(), a_master(), None, PATH) is None
    assert worker_count(RecordedMachine(), a_master(), partly, PATH) is None
    assert counted("worker_processes auto;", online="") is None


def elf(loader: bytes) -> str:
    """The head of an ELF file with this loader, as text of one character a byte."""
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return (head + struct.pack("<IIQQQQQQ", 3, 4, 120, 0, 0, len(loader), len(loader), 1) + loader).decode("latin-1")


@pytest.mark.parametrize(
    ("loader", "found"),
    [(b"/lib64/ld-linux-x86-64.so.2\0", 4), (b"/lib/ld-musl-x86_64.so.1\0", 2)],
)
def test_glibc_counts_what_is_online_and_musl_what_the_master_may_use(loader: bytes, found: int) -> None:
    host = RecordedMachine(
        texts={ONLINE: "0-3", "/proc/812/status": "Cpus_allowed:\tff\nCpus_allowed_list:\t2-127\n", PATH: elf(loader)}
    )

    assert processors(host, 812, PATH) == found


def test_a_container_s_own_list_comes_first() -> None:
    host = RecordedMachine(texts={ONLINE: "0-3", "/proc/812/root" + ONLINE: "0-1"})

    assert processors(host, 812, PATH) == 2


@pytest.mark.parametrize(
    ("text", "found"),
    [("0\n", {0}), ("0-2,5\n", {0, 1, 2, 5}), ("7,1", {1, 7}), ("", None), ("0-", None), ("a-b", None), ("0,,1", None)],
)
def test_a_list_of_the_kernel_is_read_whole_or_not_at_all(text: str, found: set[int] | None) -> None:
    assert numbers(text) == found
