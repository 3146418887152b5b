"""The kind of a log line: what it says, without what differs from one time to the next. And how often a kind is written.

Two lines are of one kind when they report the same failure of the same thing. Pids, counts, sizes and memory addresses
differ from time to time, so they are left out. Names stay: a file that the running release did not miss, or a listener
that it could bind, is news. An errno, a signal and an exit code are what the line is about, so they stay, too.
"""

import datetime
import re
from functools import lru_cache
from typing import Iterable, List, Match, NamedTuple, Tuple

from fleet.onhost.nginx.error_log import EXIT, LINE
from fleet.onhost.state.known_lines import WINDOWS_S

VARYING = re.compile(
    r"""(?P<name> "[^"]*"                                    # a quoted name
        | (?:unix:)?/[^\s",;]+                               # a path
        | \d{1,3}(?:\.\d{1,3}){3}(?::\d+)?                   # an IPv4 address
        | \[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\](?::\d+)? )       # an IPv6 address
      | (?P<errno> \(\d+:\ )
      | (?<![A-Za-z_])(?:(?:0x)?(?=[A-Fa-f]*\d)[0-9A-Fa-f]{8,}(?![0-9A-Za-z_])|\d+)""",
    re.VERBOSE,
)
# Files that nginx names itself: of a cache by a hash, below folders named after its end; temporary ones by a number.
GENERATED = re.compile(
    r"(?:/[0-9a-f]{1,2}){0,3}/[0-9a-f]{32}(?:\.\d{10})?(?![0-9A-Za-z])|(?:/\d{1,3}){0,3}/\d{10}(?!\d)"
)
SAID = re.compile(r"^nginx: \[(\w+)\] (.*)$")
REQUEST = re.compile(r"^\*\d+ ")
PROCESS = re.compile(r"process \d+ ")
QUOTES = re.compile(r"['`\\]")
MOST_CHARACTERS = 300
MOST_SUGGESTED = 100
TIME = 19  # The characters of "2026/11/23 10:00:00".


class Text(NamedTuple):
    """A log line taken apart. Its text is without the number of a connection."""

    at: str
    level: str
    pid: int
    text: str


def parsed(line: str) -> Text:
    """The parts of a line. A line without a time has the pid 0, and a level only if nginx wrote it to its stderr."""
    found = LINE.match(line)
    if not found:
        said = SAID.match(line)
        return Text("", said.group(1), 0, said.group(2)) if said else Text("", "", 0, line.strip())
    return Text(line[:TIME], found.group(1), int(found.group(2)), REQUEST.sub("", found.group(3)))


def kind_of(line: str) -> str:
    """The kind of a line: its level, and its text with `#` for all that varies."""
    seen = parsed(line)
    return ("%s: %s" % (seen.level, _constant(seen.text, "#")))[:MOST_CHARACTERS]


def shortened(line: str) -> str:
    """The line, cut where it is too long to be kept or shown."""
    return line if len(line) <= MOST_CHARACTERS else line[:MOST_CHARACTERS] + "…"


def is_exit(line: str) -> bool:
    """Whether the line reports a worker that a signal or a fatal exit code has ended."""
    return bool(EXIT.match(parsed(line).text))


def suggested_pattern(line: str) -> str:
    """A pattern for `--allow log-line=PATTERN` that names lines of this kind, without quotes that a shell would see."""
    return QUOTES.sub("*", _constant(parsed(line).text, "*"))[:MOST_SUGGESTED]


def _constant(text: str, mark: str) -> str:
    exited = EXIT.match(text)
    if exited:
        return PROCESS.sub("process %s " % mark, exited.group(0))

    def replace(found: Match[str]) -> str:
        if found.group("name"):
            return GENERATED.sub("/" + mark, found.group("name"))
        return found.group("errno") or mark

    return VARYING.sub(replace, text)


def most_within(lines: Iterable[str]) -> Tuple[int, ...]:
    """How many of these lines were written at most within each of `WINDOWS_S`, by their time stamps."""
    times = sorted(_seconds(parsed(line).at) for line in lines)
    return tuple(_most(times, window_s) for window_s in WINDOWS_S)


def _most(times: List[int], window_s: int) -> int:
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] >= window_s:
            first += 1
        most = max(most, last - first + 1)
    return most


@lru_cache(maxsize=1024)
def _seconds(at: str) -> int:
    """The time of a line in seconds, from an arbitrary start; 0 where it is no time."""
    try:
        day = datetime.date(int(at[:4]), int(at[5:7]), int(at[8:10])).toordinal()
        return day * 86400 + int(at[11:13]) * 3600 + int(at[14:16]) * 60 + int(at[17:19])
    except ValueError:
        return 0
