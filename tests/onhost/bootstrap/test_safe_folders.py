"""Which places count on the way to a bundle; `ssh/delivery/test_provision.py` does it with a real sshd."""

import os
import stat
import struct
from pathlib import Path

import pytest

from fleet.onhost.bootstrap.safe_folders import first_unsafe

# acl(5) as the kernel keeps it: rwx for the owner, for the user 65534 and as the mask; r-x for the group and all others.
ALL, SOME, NOBODY = 7, 5, 0xFFFFFFFF
ENTRIES = [(1, ALL, NOBODY), (2, ALL, 65534), (4, SOME, NOBODY), (16, ALL, NOBODY), (32, SOME, NOBODY)]
ACCESS_LIST = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in ENTRIES)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The folder of a bundle, in a state folder below `way`."""
    folder = tmp_path / "way" / "state" / "bundles" / "key"
    (folder / "lib" / "fleet").mkdir(parents=True)
    (folder / "fleet.pyz").touch()
    return folder


def test_a_path_that_only_root_may_write_is_safe_even_before_it_exists(bundle: Path) -> None:
    assert first_unsafe(str(bundle)) is None
    assert first_unsafe(str(bundle.parents[1] / "other" / "bundles" / "key")) is None


def test_a_sticky_folder_may_be_everybody_s_but_what_lies_in_it_must_be_root_s(bundle: Path) -> None:
    way = bundle.parents[2]
    way.chmod(0o1777)
    (way / "link").symlink_to(way / "state")
    through = str(way / "link" / "bundles" / "key")

    assert (first_unsafe(str(bundle)), first_unsafe(through)) == (None, None)
    os.chown(way / "link", 65534, 65534, follow_symlinks=False)
    assert first_unsafe(through) == str(way / "link")


def test_a_state_folder_may_not_be_everybody_s_though_it_is_sticky(bundle: Path) -> None:
    bundle.parents[1].chmod(0o1777)

    assert first_unsafe(str(bundle)) == str(bundle.parents[1])


def test_root_s_own_group_may_write_unless_an_access_list_lets_another_user_in(bundle: Path) -> None:
    """The mode looks the same: what it says of the group is the most that anybody on the list may do."""
    way = bundle.parents[2]
    way.chmod(0o775)
    bundle.parents[1].chmod(0o770)

    assert first_unsafe(str(bundle)) is None
    os.setxattr(way, "system.posix_acl_access", ACCESS_LIST)
    assert (stat.S_IMODE(way.stat().st_mode), first_unsafe(str(bundle))) == (0o775, str(way))


def test_the_folders_of_releases_may_be_links_and_the_way_there_counts(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "large" / "releases").mkdir(parents=True)
    (bundle.parents[1] / "releases").symlink_to(tmp_path / "large" / "releases")

    assert first_unsafe(str(bundle)) is None
    (tmp_path / "large").chmod(0o777)
    assert first_unsafe(str(bundle)) == str(tmp_path / "large")


def test_two_dots_lead_where_the_kernel_goes(bundle: Path, tmp_path: Path) -> None:
    """`..` leads to the parent of the link's target, not to the parent of the link."""
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "away").mkdir()
    (tmp_path / "link").symlink_to("far/away")
    (tmp_path / "far" / "state").symlink_to(bundle.parents[1])
    through = f"{tmp_path}/link/../state/bundles/key"

    assert first_unsafe(through) is None
    (tmp_path / "far").chmod(0o777)
    assert first_unsafe(through) == str(tmp_path / "far")


@pytest.mark.parametrize("name", ["fleet.pyz", "lib", "lib/fleet"])
def test_files_beside_a_bundle_must_be_root_s_alone(bundle: Path, name: str) -> None:
    os.chown(bundle / name, 65534, 65534)

    assert first_unsafe(str(bundle)) == str(bundle / name)


def test_the_folders_of_releases_and_instances_must_be_root_s_alone_and_what_is_kept_there_need_not(
    bundle: Path,
) -> None:
    """A binary is kept as it was found, with its owner and its mode."""
    kept = bundle.parents[1] / "releases" / "sha" / "nginx"
    kept.parent.mkdir(parents=True)
    kept.touch()
    os.chown(kept, 65534, 65534)

    assert first_unsafe(str(bundle)) is None
    kept.parent.chmod(0o777)
    assert first_unsafe(str(bundle)) == str(kept.parent)


def test_a_link_beside_a_bundle_is_never_followed(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (bundle / "lib" / "fleet").rmdir()
    (bundle / "lib" / "fleet").symlink_to(tmp_path / "elsewhere")

    assert first_unsafe(str(bundle)) == str(bundle / "lib" / "fleet")


def test_links_that_lead_to_each_other_end_in_an_error(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop/loop")

    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        first_unsafe(str(tmp_path / "loop" / "bundles" / "key"))
