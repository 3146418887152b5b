"""Which database holds the journal, and whether its file system is shared."""

import os
import stat
from pathlib import Path

import pytest

from fleet.errors import JournalError
from fleet.journal.location import (
    MOUNTS,
    create_file,
    file_system_type,
    is_on_shared_file_system,
    journal_location,
)

MOUNT_LINES = """\
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
def test_the_longest_mount_point_counts_and_of_equal_ones_the_last(path: str, kind: str) -> None:
    assert file_system_type(Path(path), MOUNT_LINES) == kind


def is_shared(kind: str, folder: Path) -> bool:
    """The answer for a journal in `folder`, where a file system of this kind is mounted over a local one."""
    mountinfo = folder / "mountinfo"
    mountinfo.write_text(f"22 1 0:21 / / rw - ext4 /dev/vda1 rw\n30 22 0:26 / {folder} rw - {kind} source rw\n")
    return is_on_shared_file_system(folder / "journal.db", mountinfo)


@pytest.mark.parametrize("kind", "nfs nfs4 cifs smb3 9p fuse.sshfs fuse.glusterfs afs ceph lustre virtiofs".split())
def test_a_network_file_system_is_shared(kind: str, tmp_path: Path) -> None:
    assert is_shared(kind, tmp_path)


@pytest.mark.parametrize("kind", "ext4 xfs btrfs zfs tmpfs overlay apfs f2fs bcachefs".split())
def test_a_local_file_system_is_not_shared(kind: str, tmp_path: Path) -> None:
    assert not is_shared(kind, tmp_path)


def test_a_symlink_to_a_shared_file_system_is_followed(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "link").symlink_to("shared")
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(
        f"22 1 0:21 / / rw - ext4 /dev/vda1 rw\n30 22 0:26 / {tmp_path}/shared rw - nfs4 server:/ rw\n"
    )

    assert is_on_shared_file_system(tmp_path / "link" / "journal.db", mountinfo)


def test_without_mountinfo_a_file_system_counts_as_local(tmp_path: Path) -> None:
    assert not is_on_shared_file_system(tmp_path / "journal.db", tmp_path / "missing")


def test_the_mounts_of_this_machine_can_be_read(tmp_path: Path) -> None:
    assert file_system_type(tmp_path, MOUNTS.read_text())


def test_malformed_lines_of_mountinfo_are_skipped() -> None:
    assert file_system_type(Path("/x"), "nonsense\n\n - \n1 2 3\n") is None


def test_by_default_the_journal_is_in_the_user_s_state_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    assert journal_location(None).path == tmp_path / "fleet" / "journal.db"
    assert journal_location(" ").path == tmp_path / "fleet" / "journal.db"


@pytest.mark.parametrize("text", ["there/j.db", "sqlite:///there/j.db", "sqlite+pysqlite:///there/j.db"])
def test_a_file_may_be_named_by_its_path_or_as_a_url(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    location = journal_location(text)

    assert location.path == tmp_path / "there" / "j.db"
    assert location.display_name == str(location.path)


def test_a_server_is_named_without_its_password() -> None:
    location = journal_location("postgresql+psycopg://ann:secret@db/fleet")

    assert location.path is None
    assert "ann" in location.display_name
    assert "secret" not in location.display_name


@pytest.mark.parametrize("text", ["sqlite://", "sqlite:///:memory:", "sqlite:///x.db?mode=ro", "://", "a b://c:d:e@/"])
def test_a_database_in_memory_and_a_malformed_url_are_refused(text: str) -> None:
    with pytest.raises(JournalError) as refused:
        journal_location(text)

    assert "--journal" in str(refused.value)
    assert "Allowed:" in refused.value.remedy


def test_a_new_file_and_its_new_folder_are_accessible_to_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "journal.db"
    before = os.umask(0)
    try:
        create_file(path)
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_mode_of_an_existing_file_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.touch()
    path.chmod(0o660)

    create_file(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_a_directory_and_a_path_below_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    for path, said in ((tmp_path, "is a directory"), (tmp_path / "file" / "journal.db", "can't be created")):
        with pytest.raises(JournalError, match=said):
            create_file(path)
