"""Whether a release can be executed on this host, and what differs between its build and that of the running one."""

import pytest

from fleet.onhost.preflight.release import differs, runs
from fleet.onhost.rehearsal.evidence import Generation
from fleet.onhost.system.machine import Ran
from tests.onhost.nginx.test_binary import OPTIONS, V, build, elf
from tests.support.onhost.recorded import PATH, RecordedMachine, a_master, a_subject
from tests.support.onhost.shown import UP, files, shown


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


def judged(before: str, after: str, argv: str = PATH, text: str = "events {}") -> dict[str, str]:
    subject = a_subject(RecordedMachine(), a_master(argv=tuple(argv.split(" "))))
    found = differs(subject, build(before), build(after), files(text), None)
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
        ("", "--modules-path=/m", PATH, "load_module modules/m.so;", {"build_differs"}),
        ("", "--error-log-path=/e", PATH, "", {"paths_moved"}),
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
            "--conf-path=/c --pid-path=/p",
            "error_log /y;",
            "or restart nginx once with -c, and reload nginx with a `pid` directive in the main context.",
        ),
    ],
)
def test_the_remedy_names_what_overrides_just_those_paths(after: str, text: str, cure: str) -> None:
    subject = a_subject(RecordedMachine(), a_master(argv=(PATH,)))

    found = differs(subject, build(""), build(after), files(text), None)

    remedies = [one.remedy for one in found if one.reason == "paths_moved"]
    assert remedies == ["Build it with the same paths (`nginx -V` prints them); " + cure]


def test_a_server_that_hands_its_sockets_over_in_another_way_is_refused() -> None:
    subject = a_subject(RecordedMachine())

    assert [one.reason for one in differs(subject, build(), build(name="Angie"), None, None)] == ["other_server"]
    assert differs(subject, build(), build(name="openresty"), None, None) == []


@pytest.mark.parametrize(
    ("options", "new", "words"),
    [
        ("--pid-path=/p", UP, {"build_differs"}),
        ("--pid-path=/p", UP._replace(pid_file=None), {"paths_moved"}),
        ("--error-log-path=/e", UP, {"build_differs"}),
        ("--error-log-path=/e", UP._replace(error_log="/e"), {"paths_moved"}),
        ("--error-log-path=/e", UP._replace(error_log=None), {"paths_moved"}),
        ("--user=www", UP, set()),
        ("--user=www", UP._replace(user=34), {"build_differs"}),
        ("", UP._replace(modules=()), {"modules_gone"}),
    ],
)
def test_what_the_rehearsal_shows_counts_more_than_what_the_files_seem_to_say(
    options: str, new: Generation, words: set[str]
) -> None:
    text = "http { pid 1; user x; }" if "moved" in str(words) else "events {}"

    found = differs(a_subject(RecordedMachine()), build(""), build(options), files(text), shown(new))

    assert {one.reason for one in found} == words
