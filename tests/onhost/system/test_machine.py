"""What the machine promises of files when something is in the way."""

from pathlib import Path

import pytest

from fleet.onhost.system.machine import Machine


def test_a_write_that_fails_leaves_what_was_there_and_nothing_beside_it(tmp_path: Path) -> None:
    taken = tmp_path / "record.json"
    (taken / "in the way").mkdir(parents=True)

    with pytest.raises(OSError, match="record.json"):
        Machine().write(str(taken), "new")

    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]
    assert (taken / "in the way").is_dir()
