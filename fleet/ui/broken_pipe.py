"""A text stream whose write errors don't end the run: `fleet upgrade … | head` must not stop a rollout half-way.

A closed pipe, a full disk and a lost terminal don't concern the hosts. After the first failed write the stream's file
descriptor is /dev/null, so that Python's flush at exit reports no error either.
"""

import io
import os
from contextlib import suppress
from typing import Any, TextIO, cast


class TolerantStream:
    """Writes to the stream and never raises OSError. `lost` is the first error of a write, or `None`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost: OSError | None = None

    def write(self, text: str) -> int:
        """Writes the text, or drops it after the first error."""
        if self.lost is None:
            try:
                return self._stream.write(text)
            except OSError as error:
                self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Flushes the stream, unless a write has failed."""
        if self.lost is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._lose(error)

    def _lose(self, error: OSError) -> None:
        self.lost = error
        with suppress(OSError, ValueError):  # io.StringIO has no file descriptor
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def tolerant(stream: object) -> TextIO:
    """The text stream with its write errors caught; `None`, a stream closed before the start, becomes a dummy."""
    if stream is None or isinstance(stream, TolerantStream):
        return cast(TextIO, stream or TolerantStream(io.StringIO()))
    return cast(TextIO, TolerantStream(cast(TextIO, stream)))


def write_error(stream: object) -> str | None:
    """The message for output that could not be written, or `None`. A closed pipe is not an error: `head` closes it."""
    lost = stream.lost if isinstance(stream, TolerantStream) else None
    if lost is None or isinstance(lost, BrokenPipeError):
        return None
    return f"Some output to stdout was lost: {lost.strerror}."
