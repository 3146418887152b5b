import struct
from pathlib import Path

import pytest

from fleet.onhost.nginx.binary import Build, complaint, effective, read_build, read_elf
from fleet.onhost.nginx.command_line import CommandLine
from fleet.onhost.system.machine import Machine
from tests.support.onhost.recorded import PATH, RecordedMachine

V = "{name} version: {name}/1.26.2\nbuilt by gcc\nconfigure arguments: {options}\n"
OPTIONS = (
    "--prefix=/etc/nginx --with-cc-opt='-g -O2' --with-http_ssl_module --add-module=../more/ --with-stream=dynamic"
)


def build(options: str = OPTIONS, name: str = "nginx") -> Build:
    found = read_build(V.format(name=name, options=options))
    assert found is not None
    return found


def elf(machine: int = 62, wide: bool = True, loader: bytes = b"/lib64/ld.so\0") -> str:
    """The bytes of an ELF head with one program header, as latin-1 text."""
    head = bytearray(64)
    head[:6] = b"\x7fELF" + bytes([2 if wide else 1, 1])
    struct.pack_into("<H", head, 18, machine)
    struct.pack_into("<Q" if wide else "<I", head, 32 if wide else 28, 64)
    struct.pack_into("<HH", head, 54 if wide else 42, 56 if wide else 32, 1)
    table = bytearray(56 if wide else 32)
    struct.pack_into("<I", table, 0, 3)
    struct.pack_into("<Q" if wide else "<I", table, 8 if wide else 4, 64 + len(table))
    struct.pack_into("<Q" if wide else "<I", table, 32 if wide else 16, len(loader))
    return (bytes(head) + bytes(table) + loader).decode("latin-1")


def test_the_head_of_a_real_nginx_is_read() -> None:
    found = read_elf(Machine(), PATH)

    assert found is not None
    assert found.loader is not None
    assert Path(found.loader).exists()


@pytest.mark.parametrize(
    ("number", "wide", "kind"),
    [(62, True, "x86_64, 64 bit"), (40, False, "arm, 32 bit"), (999, True, "machine 999, 64 bit")],
)
def test_elf_headers_of_other_machines_are_read(number: int, wide: bool, kind: str) -> None:
    found = read_elf(RecordedMachine(texts={"/n": elf(number, wide)}), "/n")

    assert found is not None
    assert (found.kind, found.loader) == (kind, "/lib64/ld.so")


@pytest.mark.parametrize("text", ["", "#!/bin/sh\n", "\x7fELF", elf()[:40]])
def test_an_incomplete_header_is_no_elf_file(text: str) -> None:
    assert read_elf(RecordedMachine(texts={"/n": text}), "/n") is None


# What -V says


def test_the_arguments_of_configure_are_read() -> None:
    found = build()

    assert (found.server, found.version, found.options["prefix"]) == ("nginx", "1.26.2", "/etc/nginx")
    assert found.modules == {"with-http_ssl_module", "more", "with-stream (dynamic)"}
    assert found.options["with-cc-opt"] == "-g -O2"
    assert read_build("bash: version 5") is None


def test_debians_own_answer_is_read() -> None:
    found = read_build(Machine().run((PATH, "-V"), 20.0).output)

    assert found is not None
    assert found.options["conf-path"] == "/etc/nginx/nginx.conf"


def test_a_relative_path_is_taken_from_the_prefix_in_force() -> None:
    assert effective(build("--prefix=/a"), CommandLine(PATH), "conf-path") == "/a/conf/nginx.conf"
    assert effective(build("--prefix=/a"), CommandLine(PATH, prefix="/b/"), "pid-path") == "/b/logs/nginx.pid"
    assert effective(build("--prefix=/a"), CommandLine(PATH, config="x.conf"), "conf-path") == "/a/x.conf"


@pytest.mark.parametrize(
    ("output", "line"),
    [
        (
            'nginx: [warn] x\nnginx: [emerg] unknown directive "a" in /n:1\nnginx: configuration file /n test failed\n',
            'nginx: [emerg] unknown directive "a" in /n:1',
        ),
        ("nginx: configuration file /n test failed\n", "nginx: configuration file /n test failed"),
        ("\n(no end after 60 s)", "(no end after 60 s)"),
        ("", "it printed nothing"),
    ],
)
def test_the_line_that_says_why_is_picked_out(output: str, line: str) -> None:
    assert complaint(output) == line
