import struct
from pathlib import Path

import pytest

from fleet.onhost.nginx import binary
from fleet.onhost.nginx.binary import Build, complaint, effective, read_build, read_elf
from fleet.onhost.nginx.command_line import CommandLine
from fleet.onhost.nginx.configuration import Configuration, read_configuration
from fleet.onhost.preflight.release import differs, runs
from fleet.onhost.protocol import Layout
from fleet.onhost.system.machine import Machine, Ran
from tests.support.onhost.recorded import PATH, RecordedMachine, a_master, a_subject

V = "{name} version: {name}/1.26.2\nbuilt by gcc\nconfigure arguments: {options}\n"
OPTIONS = (
    "--prefix=/etc/nginx --with-cc-opt='-g -O2' --with-http_ssl_module --add-module=../more/ --with-stream=dynamic"
)


def build(options: str = OPTIONS, name: str = "nginx") -> Build:
    found = read_build(V.format(name=name, options=options))
    assert found is not None
    return found


def config(text: str) -> Configuration:
    found = read_configuration(f"# configuration file /n.conf:\n{text}", CommandLine(PATH))
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


def tried(said: Ran, head: str = elf(), loader: bool = True) -> list[str]:
    host = RecordedMachine(
        texts={"/proc/812/exe": elf(), "/s": head},
        stats={"/lib64/ld.so": {}} if loader else {},
        runs={("/s", "-V"): said},
    )
    found, _ = runs(a_subject(host, staged="/s"))
    return [one.reason for one in found]


GOOD = Ran(0, V.format(name="nginx", options=""), 0.1)
LIBRARY = (
    "/s: error while loading shared libraries: libpcre.so.3: cannot open shared object file: No such file or directory"
)


def test_a_release_that_answers_is_good() -> None:
    assert tried(GOOD) == []


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (Ran(127, LIBRARY, 0.1), "library_missing"),
        (Ran(-11, "", 0.1), "cannot_run"),
        (Ran(127, "[Errno 13] Permission denied: '/s'", 0.1), "cannot_run"),
        (Ran(0, "hello", 0.1), "cannot_run"),
    ],
)
def test_a_release_that_does_not_answer_is_refused_with_its_own_output(said: Ran, reason: str) -> None:
    assert tried(said) == [reason]


def test_a_release_for_another_machine_or_another_loader_is_refused_without_being_run() -> None:
    assert tried(GOOD, elf(183)) == ["wrong_architecture"]
    assert tried(GOOD, "no elf") == ["wrong_architecture"]
    assert tried(GOOD, loader=False) == ["loader_missing"]


def test_without_a_staged_release_one_warning_names_the_checks_that_were_left_out() -> None:
    assert [one.reason for one in runs(a_subject(RecordedMachine()))[0]] == ["not_staged"]


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


def judged(before: str, after: str, argv: str = PATH, text: str = "events {}") -> dict[str, str]:
    subject = a_subject(RecordedMachine(), a_master(argv=tuple(argv.split(" "))))
    found = differs(subject, build(before), build(after), config(text))
    return {one.reason: one.message for one in found}


def test_the_same_build_differs_in_nothing() -> None:
    assert judged(OPTIONS, OPTIONS) == {}


@pytest.mark.parametrize(
    ("before", "after", "argv", "text", "words"),
    [
        ("", "--prefix=/opt", PATH, "", {"paths_moved"}),
        ("", "--prefix=/opt", PATH + " -p /srv", "pid /x;", {"build_differs"}),
        ("", "--conf-path=/etc/n.conf", PATH, "pid /x;", {"paths_moved"}),
        ("", "--conf-path=/etc/n.conf", PATH + " -c /c", "pid /x;", {"build_differs"}),
        ("", "--pid-path=/run/n.pid", PATH, "", {"paths_moved"}),
        ("", "--pid-path=/run/n.pid", PATH, "pid /run/m.pid;", {"build_differs"}),
        ("", "--pid-path=logs/nginx.pid", PATH, "", set()),
        ("", "--sbin-path=/s", PATH, "", {"build_differs"}),
        ("", "--modules-path=/m", PATH, "", {"build_differs"}),
        ("", "--modules-path=/m", PATH, "load_module /usr/lib/m.so;", {"build_differs"}),
        ("", "--modules-path=/m", PATH, "load_module modules/m.so;", {"paths_moved"}),
        ("", "--modules-path=modules", PATH, "load_module modules/m.so;", set()),
        ("", "--error-log-path=/e", PATH, "", {"paths_moved"}),
        ("", "--error-log-path=/e", PATH, "http { error_log /f; }", {"paths_moved"}),
        ("", "--error-log-path=/e", PATH, "error_log /f;", {"build_differs"}),
        ("", "--error-log-path=/e", PATH + " -e /f", "", {"build_differs"}),
        ("", "--error-log-path=logs/error.log", PATH, "", set()),
        ("--user=www", "--user=nginx", PATH, "", {"build_differs"}),
        ("--user=www", "--user=nginx", PATH, "user www;", set()),
        ("--with-http_v2_module", "", PATH, "", {"modules_gone"}),
        ("--with-stream", "--with-stream=dynamic", PATH, "", {"modules_gone"}),
        ("", "--without-http_gzip_module", PATH, "", {"modules_gone"}),
        ("--add-module=/a/b", "--add-module=/c/b --with-threads", PATH, "", set()),
    ],
)
def test_a_difference_of_the_builds_matters_where_nothing_overrides_it(
    before: str, after: str, argv: str, text: str, words: set[str]
) -> None:
    assert set(judged(before, after, argv, text)) == words


@pytest.mark.parametrize(
    ("after", "text", "cure"),
    [
        ("--prefix=/opt", "pid /x; error_log /y;", "or restart nginx once with -p and -c."),
        ("--error-log-path=/e", "pid /x;", "or reload nginx with an `error_log` directive in the main context."),
        (
            "--conf-path=/c --pid-path=/p --modules-path=/m",
            "error_log /y; load_module m.so;",
            "or restart nginx once with -c, and reload nginx with a `pid` directive and full paths in `load_module` "
            "in the main context.",
        ),
    ],
)
def test_the_remedy_names_what_overrides_just_those_paths(after: str, text: str, cure: str) -> None:
    subject = a_subject(RecordedMachine(), a_master(argv=(PATH,)))

    found = differs(subject, build(""), build(after), config(text))

    remedies = [one.remedy for one in found if one.reason == "paths_moved"]
    assert remedies == ["Build it with the same paths (`nginx -V` prints them); " + cure]


def test_a_server_that_hands_its_sockets_over_in_another_way_is_refused() -> None:
    subject = a_subject(RecordedMachine())

    assert [one.reason for one in differs(subject, build(), build(name="Angie"), None)] == ["other_server"]
    assert differs(subject, build(), build(name="openresty"), None) == []


def test_a_relative_path_is_taken_from_the_prefix_in_force() -> None:
    assert effective(build("--prefix=/a"), CommandLine(PATH), "conf-path") == "/a/conf/nginx.conf"
    assert effective(build("--prefix=/a"), CommandLine(PATH, prefix="/b/"), "pid-path") == "/b/logs/nginx.pid"
    assert effective(build("--prefix=/a"), CommandLine(PATH, config="x.conf"), "conf-path") == "/a/x.conf"


# The test of the configuration


def test_the_configuration_is_tested_as_the_master_would_start_the_binary() -> None:
    host = RecordedMachine(stats={"/srv": {}}, links={"/proc/812/cwd": "/srv"})
    master = a_master(argv=(PATH, "-g", "daemon", "on;", "-c", "/c"))

    binary.test_configuration(host, "/s", master, Layout(), 5.0)
    binary.dump_configuration(host, "/s", master._replace(argv=()), Layout(config="/d", prefix="/p"), 5.0)

    assert host.ran == [("/s", "-g", "daemon on;", "-c", "/c", "-t"), ("/s", "-p", "/p", "-c", "/d", "-T")]


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
