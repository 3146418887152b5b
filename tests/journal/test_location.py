"""Which database is the journal, and what its file system is."""

import os
import stat
from pathlib import Path

import pytest

from fleet.errors import JournalError
from fleet.journal.location import ODD, file_system, is_odd, make_file, place_of

MOUNTS = """\
22 1 0:21 / / rw,relatime - ext4 /dev/vda1 rw
30 22 0:26 / /home rw shared:1 - nfs4 server:/home rw
31 30 0:27 / /home/deploy/local rw shared:2 master:3 - xfs /dev/vdb rw
32 22 0:28 / /mnt/my\\040disk rw - cifs //server/share rw
33 22 0:29 / /mnt/twice rw - ext4 /dev/vdc rw
34 33 0:30 / /mnt/twice rw - fuse.sshfs server: rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/journal.db", "ext4"),
        ("/home/deploy/journal.db", "nfs4"),
        ("/home/deploy/local/journal.db", "xfs"),
        ("/home/deploy/localized/journal.db", "nfs4"),
        ("/homestead/journal.db", "ext4"),
        ("/mnt/my disk/journal.db", "cifs"),
        ("/mnt/twice/journal.db", "fuse.sshfs"),
    ],
)
def test_the_longest_mount_point_holds_a_file_and_the_last_of_equals(path: str, kind: str) -> None:
    assert file_system(Path(path), MOUNTS) == kind


@pytest.mark.parametrize("kind", "nfs nfs4 cifs smb3 9p fuse.sshfs fuse.glusterfs afs ceph lustre virtiofs".split())
def test_what_other_machines_share_is_odd(kind: str) -> None:
    assert kind.startswith(ODD)


@pytest.mark.parametrize("kind", "ext4 xfs btrfs zfs tmpfs overlay apfs f2fs bcachefs".split())
def test_a_disk_of_this_machine_is_not_odd(kind: str) -> None:
    assert not kind.startswith(ODD)


def test_lines_that_are_no_mounts_say_nothing() -> None:
    assert file_system(Path("/x"), "nonsense\n\n - \n1 2 3\n") is None


def test_this_machine_s_own_disk_can_be_asked(tmp_path: Path) -> None:
    assert is_odd(tmp_path / "journal.db") in (True, False)


def test_by_default_the_journal_is_in_the_user_s_state_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    assert place_of(None).path == tmp_path / "fleet" / "journal.db"
    assert place_of(" ").path == tmp_path / "fleet" / "journal.db"


@pytest.mark.parametrize("text", ["there/j.db", "sqlite:///there/j.db", "sqlite+pysqlite:///there/j.db"])
def test_a_file_may_be_named_by_its_path_or_as_a_url(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    place = place_of(text)

    assert place.path == tmp_path / "there" / "j.db"
    assert place.shown == str(place.path)


def test_a_server_is_named_without_its_password() -> None:
    place = place_of("postgresql+psycopg://ann:secret@db/fleet")

    assert place.path is None
    assert "ann" in place.shown
    assert "secret" not in place.shown


@pytest.mark.parametrize("text", ["sqlite://", "sqlite:///:memory:", "sqlite:///x.db?mode=ro", "://", "a b://c:d:e@/"])
def test_what_would_not_last_or_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(JournalError) as refused:
        place_of(text)

    assert "--journal" in str(refused.value)
    assert "Allowed:" in refused.value.remedy


def test_a_new_file_and_its_new_folder_are_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "journal.db"
    before = os.umask(0)
    try:
        make_file(path)
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_rights_of_a_file_that_is_there_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.touch()
    path.chmod(0o660)

    make_file(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_a_folder_and_a_place_below_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    for path, said in ((tmp_path, "is a folder"), (tmp_path / "file" / "journal.db", "can't be made")):
        with pytest.raises(JournalError, match=said):
            make_file(path)
