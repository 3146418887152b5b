"""A stream that outlasts whoever reads it: `fleet upgrade … | head` must not stop a rollout half-way.

A reader that goes away, a full disk and a terminal that hung up are no trouble of the run. The first failed write turns
the stream's file into /dev/null, so that Python's own last flush finds nothing to complain of either.
"""

import io
import os
from contextlib import suppress
from typing import Any, TextIO, cast


class Lasting:
    """Writes as the stream does and never raises OSError. `lost` is what a write failed with, once one has."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost: OSError | None = None

    def write(self, text: str) -> int:
        """The text is written, or dropped once the stream is lost."""
        if self.lost is None:
            try:
                return self._stream.write(text)
            except OSError as error:
                self._lose(error)
        return len(text)

    def flush(self) -> None:
        """All that can still reach the reader has left."""
        if self.lost is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._lose(error)

    def _lose(self, error: OSError) -> None:
        self.lost = error
        with suppress(OSError, ValueError):  # a stream without a file has nothing left to flush
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def lasting(stream: object) -> TextIO:
    """The text stream, made to last; for one that was closed before the start (`None`), one that keeps nothing."""
    if stream is None or isinstance(stream, Lasting):
        return cast(TextIO, stream or Lasting(io.StringIO()))
    return cast(TextIO, Lasting(cast(TextIO, stream)))


def complaint(stream: object) -> str | None:
    """Why not all of it was written, or `None`. A reader that has seen enough is no trouble."""
    lost = stream.lost if isinstance(stream, Lasting) else None
    if lost is None or isinstance(lost, BrokenPipeError):
        return None
    return f"stdout could not be written in full: {lost.strerror}."
