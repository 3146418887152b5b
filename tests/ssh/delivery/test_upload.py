"""The bytes arrive by one of the ways that the host has, and get their final name when all have arrived."""

import os
import re
import stat
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import pytest

from fleet.ssh.delivery.rate_limit import Rate
from fleet.ssh.delivery.upload import WAYS, Source, upload
from fleet.ssh.link_errors import HostRefused, LinkError
from fleet.ssh.transport.connection import Link
from fleet.ssh.transport.watchdog import Watchdog
from tests.support.private_nginx import wait_until
from tests.support.ssh.clocks import HandClock, HandWatchdogs
from tests.support.ssh.server import Proxy, Sshd, sshd
from tests.support.ssh.stubs import QUICK

CONTENT = os.urandom(1 << 20) + b"end"
WITH_KEEPALIVE_BYTES = 64 << 10
"""A keepalive is sent at least every 48 kB: one of them is among so many bytes."""


def only_file(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


@pytest.mark.parametrize("how", WAYS)
def test_each_way_brings_all_bytes_to_a_file_of_the_owner_s_alone(link: Link, tmp_path: Path, how: str) -> None:
    folder = tmp_path / "it's a folder; rm -rf $HOME"
    folder.mkdir()

    upload(link, CONTENT, f"{folder}/nginx.part", how=how)

    assert only_file(folder).name == "nginx.part"
    assert only_file(folder).read_bytes() == CONTENT
    assert stat.S_IMODE(only_file(folder).stat().st_mode) == 0o600


def test_an_empty_file_is_a_file(link: Link, tmp_path: Path) -> None:
    for how in WAYS:
        upload(link, b"", str(tmp_path / how), how=how)

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"sftp": b"", "scp": b""}


def test_a_file_that_is_there_is_replaced(link: Link, tmp_path: Path) -> None:
    for how in WAYS:
        (tmp_path / "nginx.part").write_bytes(CONTENT)

        upload(link, b"new", str(tmp_path / "nginx.part"), how=how)

        assert only_file(tmp_path).read_bytes() == b"new"


@pytest.mark.parametrize(
    ("way", "settings"), [("sftp", ["ForceCommand internal-sftp"]), ("scp", ["Subsystem none"])], ids=["sftp", "scp"]
)
def test_each_way_works_without_the_other_one_which_is_refused(tmp_path: Path, way: str, settings: list[str]) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    (other,) = set(WAYS) - {way}
    with sshd(tmp_path, *settings) as poor:
        link = Link(poor.host, QUICK)
        link.open()

        upload(link, CONTENT, f"{folder}/nginx.part", how=way)
        assert only_file(folder).read_bytes() == CONTENT
        with pytest.raises(HostRefused) as caught:
            upload(link, CONTENT, f"{folder}/other", how=other)

        link.close()
    assert caught.value.reason == "upload_failed"
    assert f"{other}: " in caught.value.message
    assert only_file(folder).name == "nginx.part"


@pytest.mark.parametrize("how", WAYS)
def test_a_missing_folder_is_reported(link: Link, tmp_path: Path, how: str) -> None:
    with pytest.raises(HostRefused) as caught:
        upload(link, CONTENT, f"{tmp_path}/no/nginx.part", how=how)

    assert caught.value.reason == "upload_failed"
    assert re.search(f"{how}: .*No such file", caught.value.message)


@pytest.mark.parametrize("how", WAYS)
def test_a_file_that_a_dead_upload_holds_open_is_not_reused(server: Sshd, link: Link, tmp_path: Path, how: str) -> None:
    """The far end of a dead link may live for hours. A file that it holds open could neither be trusted nor run."""
    with Proxy(server.port, freeze_after_bytes=len(CONTENT) // 4) as proxy, ThreadPoolExecutor() as threads:
        server.know("[127.0.0.1]:* {key}")
        dead = Link(proxy.before(server.host), replace(QUICK, transfer_idle_s=600))
        dead.open()
        hanging = threads.submit(upload, dead, CONTENT, f"{tmp_path}/nginx.part", how=how)
        wait_until(lambda: any(tmp_path.iterdir()), "a part is there")
        half = {path.stat().st_ino for path in tmp_path.iterdir()}

        upload(link, CONTENT, f"{tmp_path}/nginx.part", how=how)

        dead.close()
        assert isinstance(hanging.exception(), LinkError)
    assert half
    assert (tmp_path / "nginx.part").stat().st_ino not in half


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "fleet-test", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("how", WAYS)
def test_a_full_disk_leaves_nothing_under_the_final_name(link: Link, small_disk: Path, how: str) -> None:
    with pytest.raises(HostRefused) as caught:
        upload(link, CONTENT, f"{small_disk}/nginx.part", how=how)

    assert caught.value.reason == "upload_failed"
    assert not list(small_disk.iterdir())


@pytest.mark.parametrize("how", WAYS)
def test_an_upload_that_freezes_ends_and_leaves_nothing_under_the_final_name(
    server: Sshd, tmp_path: Path, how: str
) -> None:
    with Proxy(server.port, freeze_after_bytes=len(CONTENT) // 4) as proxy:
        server.know("[127.0.0.1]:* {key}")
        link = Link(proxy.before(server.host), replace(QUICK, transfer_idle_s=1))
        link.open()

        with pytest.raises(LinkError) as caught:
            upload(link, CONTENT, f"{tmp_path}/nginx.part", how=how)

        link.close()
    assert caught.value.reason == "transfer_stalled"
    assert not (tmp_path / "nginx.part").exists()
    assert all(found.stat().st_size < len(CONTENT) for found in tmp_path.iterdir())


@pytest.fixture
def watchdogs(monkeypatch: pytest.MonkeyPatch) -> HandWatchdogs:
    """The time of all links' watchdogs."""
    found = HandWatchdogs()
    monkeypatch.setattr(Link, "watchdog", lambda link, idle_s: found.make(link.close, idle_s))
    return found


@pytest.mark.parametrize("quick_bytes", [0, 3 << 20], ids=["slow from its start", "slow after 3 MB"])
@pytest.mark.parametrize("how", WAYS)
def test_an_upload_may_take_longer_than_its_deadline_while_bytes_arrive(
    server: Sshd, watchdogs: HandWatchdogs, tmp_path: Path, how: str, quick_bytes: int
) -> None:
    """All bytes fit into this machine's buffers at once, and after a quick start 1 MB is on the way: only bytes that have
    arrived are progress."""
    data = os.urandom(quick_bytes + 600_000)
    server.know("[127.0.0.1]:* {key}")

    def pass_some() -> None:
        before = watchdogs.progress
        proxy.allow(WITH_KEEPALIVE_BYTES)
        wait_until(lambda: watchdogs.progress > before or uploading.done(), "the bytes that arrive are progress")
        watchdogs.move(0.75 * QUICK.transfer_idle_s)

    with Proxy(server.port) as proxy, ThreadPoolExecutor(1) as threads:
        link = Link(proxy.before(server.host), QUICK)
        link.open()
        with closing(link):
            proxy.allow(quick_bytes)
            uploading = threads.submit(upload, link, data, f"{tmp_path}/nginx", how=how)
            wait_until(lambda: proxy.is_used_up, "the quick part has passed")
            while not uploading.done():
                pass_some()

            uploading.result()
    assert only_file(tmp_path).read_bytes() == data
    assert watchdogs.now_s > 5 * QUICK.transfer_idle_s


def test_removing_a_failed_upload_has_a_deadline(tmp_path: Path, watchdogs: HandWatchdogs) -> None:
    """The command that removes a failed upload has the upload's deadline, whatever it prints."""
    removing = tmp_path / "removing"
    endless = f"touch {removing}; while :; do echo fleet-begin; sleep 0.2; done"
    force = f'ForceCommand c="$SSH_ORIGINAL_COMMAND"; case "$c" in *"rm -f"*) {endless};; esac; exec /bin/sh -c "$c"'
    with sshd(tmp_path, force) as server, ThreadPoolExecutor(1) as threads:
        link = Link(server.host, QUICK)
        link.open()
        with closing(link):
            uploading = threads.submit(upload, link, b"bytes", f"{tmp_path}/no/folder", how="sftp")
            wait_until(removing.exists, "fleet removes the partial file")
            watchdogs.move(QUICK.transfer_idle_s)
            failure = uploading.exception()

    assert isinstance(failure, HostRefused)
    assert failure.reason == "upload_failed"


@pytest.mark.parametrize("how", WAYS)
def test_a_rate_limit_holds_back_every_way(link: Link, tmp_path: Path, how: str) -> None:
    """4096 bytes at 4096 bytes/s take a second; the last portion is sent after it."""
    clock = HandClock()

    upload(link, bytes(5000), f"{tmp_path}/nginx.part", how=how, rate=Rate(4096, clock.monotonic, clock.sleep))

    assert clock.now_s >= 1.0
    assert only_file(tmp_path).read_bytes() == bytes(5000)


def test_waiting_for_the_rate_limit_does_not_count_as_stalled(link: Link) -> None:
    """The deadline is 20 s; each portion waits for 100."""
    clock = HandClock()

    class Watching(Watchdog):
        at: ClassVar[list[float]] = []

        def progressed(self) -> None:
            self.at.append(clock.now_s)

    source = Source(bytes(2048), link, Watching(link.close, 20), Rate(10.24, clock.monotonic, clock.sleep))

    assert len(source.read(2048) + source.read(2048)) == 2048
    assert clock.now_s == 100.0
    assert max(later - earlier for earlier, later in pairwise(Watching.at)) <= 1


def test_an_upload_that_waits_for_the_rate_ends_when_the_link_is_cut(link: Link, tmp_path: Path) -> None:
    told: list[str] = []

    def cut() -> None:
        told.append("waiting")
        if len(told) == 3:
            link.close()

    with pytest.raises(LinkError) as caught:
        upload(link, CONTENT, f"{tmp_path}/nginx.part", how="sftp", rate=Rate(1), proceed=cut)

    assert caught.value.reason == "link_lost"


def test_a_stopped_upload_sends_no_more(link: Link, tmp_path: Path) -> None:
    def stopped() -> None:
        raise HostRefused("stopped", "")

    with pytest.raises(HostRefused) as caught:
        upload(link, CONTENT, f"{tmp_path}/nginx.part", how="sftp", proceed=stopped)

    assert caught.value.reason == "stopped"
    assert link.is_active
    assert not (tmp_path / "nginx.part").exists()
