"""The keys in known_hosts for a name are those that ssh-keygen finds."""

import os
import random
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fleet.ssh.hostkeys import known_hosts
from fleet.ssh.hostkeys.known_hosts import KnownKey, keys_of
from fleet.ssh.hostkeys.known_hosts_file import hashed
from fleet.ssh.link_errors import LinkError
from tests.support.ssh.server import make_key, public

ODD = """\
# web-01 {key}
web-01,*.example.net,!db.example.net {key} a comment
[web-01]:2222 {key}
@revoked [web-01]:* {key}
@cert-authority *.example.net {key}
@unheard web-01 {key}
WEB-01,!web-02 {key}
web-0? {key}
* {key}
!web-03,* {key}
!web-03 {key}
  web-01\t{key}
2001:db8::7,[2001:db8::7]:2222 {key}
web.01 {key}

web-01
web-01 ssh-ed25519
web-01 ssh-ed25519 AAAAcut
web-01 ssh-rsa {blob}
|1|broken {key}
|1|AAAA|BBBB {key}
{hash} {key}
"""
NAMES = (
    *("web-01", "WEB-01", "web-02", "web-03", "web-012", "db.example.net", "a.example.net", "[a.example.net]:22"),
    *("[web-01]:2222", "[web-01]:22", "2001:db8::7", "[2001:db8::7]:2222", "webx01", "hidden", "Hidden", "*", "-x"),
)


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A file with every kind of line."""
    key = public(make_key(tmp_path / "key"))
    path = tmp_path / "known_hosts"
    path.write_text(ODD.format(key=key, blob=key.split()[1], hash=hashed("hidden", b"s" * 20)))
    return path


def by_ssh_keygen(path: Path, name: str) -> tuple[KnownKey, ...]:
    """The keys of the lines that `ssh-keygen -F` prints, each after a comment with its number."""
    ran = subprocess.run(["ssh-keygen", "-F", name, "-f", path], capture_output=True, check=False)
    assert ran.returncode in (0, 1)
    return tuple(known_hosts._parsed(str(path), numbered(ran.stdout)))


def numbered(told: bytes) -> Iterator[tuple[int, bytes]]:
    number = 0
    for line in told.split(b"\n"):
        if found := re.fullmatch(rb"# Host .* found: line (\d+).*", line):
            number = int(found[1])
        elif line.strip():
            yield number, line


@pytest.mark.parametrize("name", NAMES)
def test_the_keys_are_those_that_ssh_keygen_finds(odd: Path, name: str) -> None:
    assert keys_of((str(odd),), name) == by_ssh_keygen(odd, name)


@pytest.mark.parametrize("seed", range(12))
def test_the_keys_of_a_file_with_random_lines_are_those_that_ssh_keygen_finds(odd: Path, seed: int) -> None:
    dice = random.Random(seed)
    key = public(odd.parent / "key")
    pieces = (
        "web-0",
        "1",
        "*",
        "?",
        "!",
        ",",
        "[",
        "]",
        ":22",
        ".",
        "db",
        "WEB",
        "-",
        "|1|",
        "#",
        "@revoked ",
        " ",
        "\t",
    )

    def line() -> str:
        names = "".join(dice.choices(pieces, k=dice.randint(1, 9)))
        if dice.random() < 0.2:
            names = hashed(dice.choice(NAMES), dice.randbytes(20))
        marker = dice.choice(("", "", "", "@revoked ", "@cert-authority ", "@", " ", "\t"))
        return f"{marker}{names}{dice.choice((' ', '  ', chr(9)))}{key}{dice.choice(('', ' words', ' ', chr(13)))}"

    odd.write_text("\n".join(line() for _ in range(60)) + dice.choice(("", "\n")), newline="")

    assert {name: keys_of((str(odd),), name) for name in NAMES} == {name: by_ssh_keygen(odd, name) for name in NAMES}


def test_names_that_ssh_keygen_has_hashed_are_found(odd: Path) -> None:
    odd.write_text("web-01 " + public(odd.parent / "key") + "\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", odd], check=True, capture_output=True)

    assert [key.line for key in keys_of((str(odd),), "web-01")] == [1]
    assert keys_of((str(odd),), "web-02") == ()


def test_a_name_that_fleet_has_hashed_is_found_by_ssh_keygen(odd: Path) -> None:
    odd.write_text(f"{hashed('[web-01]:2222', os.urandom(20))} {public(odd.parent / 'key')}\n")

    assert [key.line for key in by_ssh_keygen(odd, "[web-01]:2222")] == [1]


def test_a_file_is_read_once_for_all_hosts_and_again_when_it_has_changed(odd: Path) -> None:
    before = known_hosts._lines_in.cache_info().misses
    with ThreadPoolExecutor(8) as executor:
        found = list(executor.map(lambda number: keys_of((str(odd),), f"web-{number}"), range(80)))
    assert known_hosts._lines_in.cache_info().misses == before + 1
    assert all(found)

    odd.write_text("web-7 " + public(odd.parent / "key") + "\n")

    assert [key.line for key in keys_of((str(odd),), "web-7")] == [1]
    assert keys_of((str(odd),), "web-8") == ()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(LinkError) as caught:
        keys_of((str(tmp_path),), "web-01")

    assert caught.value.reason == "known_hosts_unreadable"


def test_an_unreadable_file_does_not_count_as_empty(tmp_path: Path) -> None:
    """As in a folder that fleet can't read. Root can read every folder, but can't follow links in a circle."""
    (tmp_path / "known_hosts").symlink_to(tmp_path / "known_hosts")

    with pytest.raises(LinkError) as caught:
        keys_of((str(tmp_path / "gone"), str(tmp_path / "known_hosts")), "web-01")

    assert caught.value.reason == "known_hosts_unreadable"
    assert str(tmp_path) in caught.value.message


def test_a_missing_file_holds_nothing(tmp_path: Path) -> None:
    assert keys_of((str(tmp_path / "gone"),), "web-01") == ()
