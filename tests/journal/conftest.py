"""A journal in the test's own directory, and a clock that the test sets."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from fleet.journal.journal import Journal
from tests.support.pretend.visits import AT


class Hands:
    """A clock that stands until the test moves it; `move` also serves as the pause of a wait."""

    def __init__(self) -> None:
        self.now = AT

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with Journal.open(str(path)) as opened:
        yield opened
