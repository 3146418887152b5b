"""A new key is stored whole and once, where ssh looks for it; a key that differs from the known one is never stored."""

import fcntl
import os
import stat
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.ssh.hostkeys import added_keys
from fleet.ssh.hostkeys.acceptance import PresentedKey, known_host_for
from fleet.ssh.hostkeys.added_keys import accept, add, store_of
from fleet.ssh.link_errors import LinkError
from fleet.ssh.openssh_config import Settings, resolve
from fleet.ssh.transport.bastion import close_bastions
from fleet.ssh.transport.connection import Link
from fleet.task import Connecting, HostKeys
from tests.support.ssh.hops import Hops, hops
from tests.support.ssh.server import Sshd, fingerprint, make_key, public
from tests.support.ssh.stubs import QUICK

NEW = Connecting(host_keys=HostKeys.ACCEPT_NEW)
KEY = PresentedKey("ssh-ed25519", b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + b"k" * 32)
OTHER = replace(KEY, blob=KEY.blob[:-1] + b"o")
ADDING = """
import sys
from fleet.ssh.hostkeys.acceptance import PresentedKey
from fleet.ssh.hostkeys.added_keys import add
from fleet.ssh.openssh_config import Settings

file, prefix, blob = sys.argv[1:]
for number in range(20):
    name = f"{prefix}-{number}"
    add([(Settings(name, 22, "root", name, (file,), (file,)), PresentedKey("ssh-ed25519", bytes.fromhex(blob)))], file)
"""


def a_host(file: Path, name: str = "web-01") -> Settings:
    return Settings(name, 22, "root", name, (str(file),), (str(file),))


def line(name: str, key: PresentedKey = KEY) -> str:
    return f"{name} {key.type} {b64encode(key.blob).decode()}\n"


def connect(server: Sshd, connecting: Connecting = NEW) -> list[tuple[str, str]]:
    """Logs in and out. Returns the messages to the operator. Raises `LinkError`."""
    told: list[tuple[str, str]] = []
    link = Link(server.host, QUICK, connecting, notify=lambda reason, message: told.append((reason, message)))
    try:
        link.open()
    finally:
        link.close()
    return told


# accept-new


def test_an_unknown_key_is_accepted_reported_and_known_from_then_on(server: Sshd) -> None:
    server.know()

    ((reason, message),) = connect(server)

    assert reason == "host_key_accepted"
    assert fingerprint(server.folder / "host_ed25519") in message
    assert f"stored in {server.known_hosts}" in message
    assert server.known_hosts.read_text() == f"[127.0.0.1]:{server.port} {server.public_key}\n"
    assert connect(server, Connecting(host_keys=HostKeys.STRICT)) == []


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ("{name} ssh-ed25519 " + b64encode(KEY.blob).decode(), "host_key_changed"),
        ("@revoked * {key}", "host_key_revoked"),
    ],
    ids=["changed", "revoked"],
)
def test_a_changed_or_revoked_key_is_never_accepted(server: Sshd, known: str, reason: str) -> None:
    server.know(known)
    before = server.known_hosts.read_text()

    with pytest.raises(LinkError) as caught:
        connect(server)

    assert caught.value.reason == reason
    assert server.known_hosts.read_text() == before


def test_a_key_is_stored_under_the_alias(server: Sshd, tmp_path: Path) -> None:
    server.know()
    (tmp_path / "config").write_text("Host *\n  HostKeyAlias web\n")

    connect(server, replace(NEW, ssh_config=str(tmp_path / "config")))

    assert server.known_hosts.read_text() == f"web {server.public_key}\n"


def test_a_name_is_hashed_where_ssh_config_says_so(server: Sshd, tmp_path: Path) -> None:
    server.know()
    (tmp_path / "config").write_text("Host *\n  HashKnownHosts yes\n  StrictHostKeyChecking accept-new\n")
    hashing = Connecting(ssh_config=str(tmp_path / "config"))

    assert len(connect(server, hashing)) == 1

    assert server.known_hosts.read_text().startswith("|1|")
    assert connect(server, hashing) == []
    found = subprocess.run(["ssh-keygen", "-F", f"[127.0.0.1]:{server.port}", "-f", server.known_hosts], check=False)
    assert found.returncode == 0


@pytest.mark.parametrize("file", ["none", "/dev/null"])
def test_no_key_is_stored_where_ssh_config_says_so(server: Sshd, tmp_path: Path, file: str) -> None:
    config = f"Host *\n  UserKnownHostsFile {file}\n  GlobalKnownHostsFile {tmp_path}/global\n"
    (tmp_path / "config").write_text(config)
    link = replace(server, host=replace(server.host, known_hosts=None))

    ((reason, message),) = connect(link, replace(NEW, ssh_config=str(tmp_path / "config")))

    assert reason == "host_key_accepted"
    assert "It is not stored" in message
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert not (tmp_path / "global").exists()


def test_a_key_that_cannot_be_stored_is_accepted_and_reported(tmp_path: Path) -> None:
    (tmp_path / "known_hosts").symlink_to(tmp_path / "gone" / "known_hosts")

    assert "It is NOT stored" in accept(a_host(tmp_path / "known_hosts"), KEY)


# Bastions


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hops]:
    with hops(tmp_path_factory.mktemp("hops"), 2) as found:
        yield found


@pytest.fixture
def behind(running: Hops) -> Iterator[Hops]:
    """A host behind a bastion; neither is known."""
    running.know()
    yield running
    close_bastions()


def opened(behind: Hops, host_keys: HostKeys | None = None) -> list[tuple[str, str]]:
    told: list[tuple[str, str]] = []
    connecting = replace(behind.connecting, host_keys=host_keys)
    link = Link(behind.host, QUICK, connecting, notify=lambda reason, message: told.append((reason, message)))
    try:
        link.open()
    finally:
        link.close()
    return told


@pytest.mark.parametrize(("known", "unknown"), [((), 0), ((1,), 0), ((0,), 1)], ids=["none", "host", "bastion"])
def test_every_hop_is_strict(behind: Hops, known: tuple[int, ...], unknown: int) -> None:
    behind.know(*known)

    with pytest.raises(LinkError) as caught:
        opened(behind)

    assert caught.value.reason == "host_key_unknown"
    assert f"[127.0.0.1]:{behind.servers[unknown].port}" in caught.value.message
    assert caught.value.message.startswith("The bastion") == (unknown == 0)


def test_a_changed_key_of_a_bastion_is_refused_though_new_ones_are_accepted(behind: Hops) -> None:
    behind.known_hosts.write_text(line(f"[127.0.0.1]:{behind.servers[0].port}"))

    with pytest.raises(LinkError) as caught:
        opened(behind, HostKeys.ACCEPT_NEW)

    assert caught.value.reason == "host_key_changed"
    assert "HAS CHANGED" in caught.value.message


def test_new_keys_are_accepted_on_every_hop(behind: Hops) -> None:
    assert [reason for reason, _ in opened(behind, HostKeys.ACCEPT_NEW)] == ["host_key_accepted"] * 2
    assert len(behind.known_hosts.read_text().splitlines()) == 2
    close_bastions()
    assert opened(behind) == []


# The file


def test_a_folder_and_a_file_that_are_missing_are_made_for_their_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / ".ssh" / "known_hosts"

    assert store_of(a_host(file)) == str(file)
    assert add([(a_host(file), KEY)], str(file)) == 1

    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text() == line("web-01")


def test_mode_owner_and_links_stay_and_a_last_line_without_an_end_stays_whole(tmp_path: Path) -> None:
    real, file = tmp_path / "real", tmp_path / "known_hosts"
    real.write_text("# words" + line("web-02").rstrip("\n"))
    real.chmod(0o640)
    os.chown(real, 12345, 12346)
    file.symlink_to(real)

    add([(a_host(file), KEY)], str(file))

    seen = real.stat()
    assert file.is_symlink()
    assert (seen.st_uid, seen.st_gid, stat.S_IMODE(seen.st_mode)) == (12345, 12346, 0o640)
    assert real.read_text() == "# words" + line("web-02") + line("web-01")


def test_the_first_file_that_can_be_written_is_taken(tmp_path: Path) -> None:
    (tmp_path / "no-folder").write_text("")
    files = (str(tmp_path / "no-folder" / "known_hosts"), str(tmp_path / "second"))

    assert store_of(replace(a_host(tmp_path), known_hosts=files, user_known_hosts=files)) == files[1]


def test_many_keys_are_added_at_once_and_known_ones_not_again(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    many = [(a_host(file, f"web-{number}"), KEY) for number in range(5)]
    add(many[:2], str(file))

    assert add([*many, *many, (replace(many[4][0], port=2222), KEY)], str(file)) == 3
    assert file.read_text() == "".join(line(f"web-{number}") for number in range(5))


def test_many_keys_are_added_to_a_file_of_many_thousand_names(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text("".join(line(f"old-{number},10.0.{number // 250}.{number % 250}") for number in range(5000)))

    added = add([(replace(a_host(file), key_name=f"[web]:{port}"), KEY) for port in range(2000, 2040)], str(file))

    assert added == 40


def test_a_key_that_changed_in_the_meantime_keeps_all_keys_out(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(line("web-02", OTHER))

    with pytest.raises(LinkError) as caught:
        add([(a_host(file), KEY), (a_host(file, "web-02"), KEY)], str(file))

    assert caught.value.reason == "host_key_changed"
    assert file.read_text() == line("web-02", OTHER)


def test_two_keys_of_one_name_keep_all_keys_out(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"

    with pytest.raises(LinkError) as caught:
        add([(a_host(file), KEY), (a_host(file, "web-02"), KEY), (a_host(file), OTHER)], str(file))

    assert caught.value.reason == "host_key_ambiguous"
    assert file.read_text() == ""


@pytest.mark.parametrize("name", ["a b", "a\nb", "*", "a,b", "!a", "#a", "@a", "|1|a", ""])
def test_a_name_with_a_special_meaning_in_known_hosts_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "known_hosts"

    with pytest.raises(LinkError) as caught:
        add([(replace(a_host(file), key_name=name), KEY)], str(file))

    assert caught.value.reason == "known_hosts_unwritable"
    assert file.read_text() == ""


def test_threads_processes_and_other_programs_lose_none_of_each_other_s_lines(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    words = [sys.executable, "-c", ADDING, str(file)]
    processes = [subprocess.Popen([*words, prefix, KEY.blob.hex()]) for prefix in ("p", "q")]
    threads = [threading.Thread(target=add, args=([(a_host(file, f"t-{at}"), KEY)], str(file))) for at in range(20)]
    threads += [threading.Thread(target=add, args=([(a_host(file, "same"), KEY)], str(file))) for _ in range(10)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        with file.open("a") as sink:  # as ssh does
            sink.write("# somebody else's\n")
    for thread in threads:
        thread.join()
    statuses = [process.wait() for process in processes]

    lines = file.read_text().splitlines(keepends=True)
    names = ["same", *(f"{prefix}-{number}" for prefix in "pqt" for number in range(20))]
    assert statuses == [0, 0]
    assert sorted(each for each in lines if not each.startswith("#")) == sorted(map(line, names))
    assert [each for each in lines if each.startswith("#")] == ["# somebody else's\n"] * 100


def test_a_file_that_was_replaced_while_we_waited_gets_the_line(tmp_path: Path) -> None:
    """`ssh-keygen -R` replaces the file: a line appended to the old one would be lost."""
    file = tmp_path / "known_hosts"
    file.write_text("")
    with file.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        (tmp_path / "next").write_text(line("web-02"))
        thread = threading.Thread(target=add, args=([(a_host(file), KEY)], str(file)))
        thread.start()
        (tmp_path / "next").rename(file)
        thread.join()

    assert file.read_text() == line("web-02") + line("web-01")


def test_a_file_that_was_replaced_just_before_we_had_its_lock_gets_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "known_hosts"
    file.write_text("")
    (tmp_path / "next").write_text(line("web-02"))
    lock = fcntl.flock

    def late(handle: int, operation: int) -> None:
        if (tmp_path / "next").exists():
            (tmp_path / "next").rename(file)
        lock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    add([(a_host(file), KEY)], str(file))

    assert file.read_text() == line("web-02") + line("web-01")


def test_a_lock_that_is_never_given_back_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "known_hosts"
    monkeypatch.setattr(added_keys, "LOCK_S", 0.05)
    with file.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        with pytest.raises(LinkError) as caught:
            add([(a_host(file), KEY)], str(file))

    assert caught.value.reason == "known_hosts_unwritable"
    assert "another program holds its lock" in caught.value.message


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    """/dev/full accepts no byte; an append is whole or does not count."""
    with pytest.raises(OSError, match="No space left"), open("/dev/full", "rb+", buffering=0) as full:
        added_keys._append(full.fileno(), b"x\n")


def test_the_settings_say_where_and_how_new_keys_are_kept(tmp_path: Path, server: Sshd) -> None:
    config = f"Host *\n  UserKnownHostsFile {tmp_path}/a {tmp_path}/b\n  HashKnownHosts yes\n"
    (tmp_path / "config").write_text(config)
    host = replace(server.host, known_hosts=None)

    found = resolve(host, Connecting(ssh_config=str(tmp_path / "config")))

    assert found.user_known_hosts == (f"{tmp_path}/a", f"{tmp_path}/b")
    assert found.hash_known_hosts
    assert store_of(found) == f"{tmp_path}/a"
    assert known_host_for(found).keys == ()


def test_a_key_made_by_ssh_keygen_is_the_one_that_is_stored(tmp_path: Path) -> None:
    made = public(make_key(tmp_path / "key")).split()
    file = tmp_path / "known_hosts"
    file.write_text(f"web-01 {' '.join(made)}\n")
    (key,) = known_host_for(a_host(file)).keys
    file.unlink()

    add([(a_host(file), PresentedKey(key.type, key.blob))], str(file))

    assert file.read_text() == f"web-01 {' '.join(made)}\n"
