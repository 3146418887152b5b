"""The files of a running master's configuration, collected by their text alone; what they mean is for nginx to say.

fleet does not parse a configuration: Lua, njs and perl blocks, quotes and map keys follow rules that only their own modules
know. It looks for statements of a few names: `include` for the files, `pid`, `listen` and `quic_bpf` for three questions.
A statement in a string is found, too: that names a file too many, never one too few. The files are read where the master
sees them: in its own root and mount namespace.
"""

import os
import re
import stat
from collections import deque
from contextlib import suppress
from fnmatch import translate
from typing import Deque, Dict, Iterator, List, NamedTuple, Optional, Pattern, Sequence, Set, Tuple

from fleet.onhost.nginx.command_line import under
from fleet.onhost.system.machine import Machine

MOST_FILES = 50000
MOST_BYTES = 64 << 20
MOST_LINKS = 40
WILD = re.compile(r"[*?\[]")
GAP = r"(?:\s|#[^\n]*\n)*"
STRING = r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'"
VALUE = r"(%s|(?!#)(?:\\.|[^\s;\\])+)" % STRING
QUOTED = re.compile(STRING)
HASH = re.compile(r"(?:^|[\s;{}])#")
ESCAPED = re.compile(r"\\([\"'\\tnr])")
ESCAPES = {"t": "\t", "n": "\n", "r": "\r"}
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class ConfigFiles(NamedTuple):
    """The files that exist, the main one first, each with its text; `folders` are those in which an `include` matches names.

    `complete` is false when there are more files, or larger ones, than fleet reads.
    """

    texts: Tuple[Tuple[str, str], ...] = ()
    folders: Tuple[str, ...] = ()
    complete: bool = True

    @property
    def files(self) -> Tuple[str, ...]:
        return tuple(name for name, _ in self.texts)

    def values(self, name: str) -> Tuple[str, ...]:
        """The value of each statement `name value;`, in the order of the files."""
        return tuple(value for _, text in self.texts for value in values_in(text, name))

    def has(self, name: str) -> bool:
        """Whether there is a statement of this name, without a block."""
        return any(one for _, text in self.texts for one in statements_in(text, name))

    def statements(self, name: str) -> Tuple[str, ...]:
        """Each statement of this name, as written."""
        return tuple(one for _, text in self.texts for one in statements_in(text, name))


class Seen:
    """The files as the process with this pid sees them. Paths are its own."""

    def __init__(self, machine: Machine, pid: int) -> None:
        self.machine = machine
        self.root = _root(machine, pid)
        self._links: Dict[str, Optional[str]] = {}

    def here(self, path: str) -> str:
        """The path by which fleet reaches this path of the process. In another root, links lead to files of that root."""
        if not self.root:
            return path
        pending = deque(path.split("/"))
        reached, links = "", 0
        while pending:
            part = pending.popleft()
            if part == "..":
                reached = os.path.dirname(reached).rstrip("/")
            if part in ("", ".", ".."):
                continue
            target = self._link("%s/%s" % (reached, part)) if links < MOST_LINKS else None
            if target is None:
                reached += "/" + part
                continue
            links += 1
            pending.extendleft(reversed(target.split("/")))
            reached = "" if target.startswith("/") else reached
        return self.root + (reached or "/")

    def stat(self, path: str) -> Optional[os.stat_result]:
        return self.machine.stat(self.here(path))

    def names(self, folder: str) -> List[str]:
        return self.machine.names(self.here(folder))

    def size_bytes(self, path: str) -> Optional[int]:
        """The size of a regular file; `None` for all else. A FIFO or a device must not be opened."""
        found = self.stat(path)
        return found.st_size if found is not None and stat.S_ISREG(found.st_mode) else None

    def text(self, path: str, most_bytes: int) -> str:
        """The text of a file. A name in it that is no UTF-8 leads to its file again. Raises OSError."""
        data = self.machine.read_from(self.here(path), 0, most_bytes)
        return os.fsdecode(data[len(BYTE_ORDER_MARK) :] if data.startswith(BYTE_ORDER_MARK) else data)

    def _link(self, path: str) -> Optional[str]:
        if path not in self._links:
            self._links[path] = self.machine.link_target(self.root + path)
        return self._links[path]


def read_files(seen: Seen, main: str, directives: str = "") -> ConfigFiles:
    """The main file and all that `include` statements name, in its text, in theirs and in `directives` (-g)."""
    folder = os.path.dirname(main)
    texts: Dict[str, str] = {}
    folders: Set[str] = set()
    pending: Deque[str] = deque([main])
    pending.extend(_included(seen, folder, directives, folders))
    known = set(pending)
    left_bytes, complete = MOST_BYTES, True
    while pending:
        path = pending.popleft()
        size_bytes = seen.size_bytes(path)
        if size_bytes is None:
            continue
        left_bytes -= size_bytes
        if left_bytes < 0 or len(texts) >= MOST_FILES:
            complete = False
            break
        with suppress(OSError):
            texts[path] = seen.text(path, size_bytes)
            for one in _included(seen, folder, texts[path], folders):
                if one not in known:
                    known.add(one)
                    pending.append(one)
    return ConfigFiles(tuple(texts.items()), tuple(sorted(folders)), complete)


def values_in(text: str, name: str) -> Iterator[str]:
    """The value of each statement `name value;` in the text, without quotes and escapes."""
    statement = re.compile(name + r"\s" + GAP + VALUE + GAP + ";", re.DOTALL)
    for found in statement.finditer(text):
        if _begins_statement(text, found.start()):
            yield _unquoted(found.group(1))


def statements_in(text: str, name: str) -> Iterator[str]:
    """Each statement of this name that ends with a semicolon, as written."""
    for found in re.finditer(name + r"\s[^;{}]*;", text):
        if _begins_statement(text, found.start()):
            yield found.group(0)


def _begins_statement(text: str, at: int) -> bool:
    """Whether a statement may begin here: at the start of a line, or after the end of another one, not in a comment."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    if not line.strip():
        return True
    return line.rstrip()[-1] in ";{}" and not HASH.search(QUOTED.sub("", line))


def _unquoted(word: str) -> str:
    if word[0] in "\"'":
        word = word[1:-1]
    return ESCAPED.sub(lambda found: ESCAPES.get(found.group(1), found.group(1)), word)


def _included(seen: Seen, folder: str, text: str, folders: Set[str]) -> Iterator[str]:
    for value in values_in(text, "include"):
        pattern = under(folder, value)
        if "\0" in pattern:
            continue
        if WILD.search(pattern):
            yield from _matching(seen, pattern, folders)
        else:
            yield pattern


def _matching(seen: Seen, pattern: str, folders: Set[str]) -> Sequence[str]:
    """The paths that match a pattern, part by part, as glob(3) gives them. Adds the folders whose names were looked at."""
    found = [""]
    for part in pattern.strip("/").split("/"):
        if not WILD.search(part):
            found = ["%s/%s" % (path, part) for path in found]
            continue
        folders.update(path or "/" for path in found if seen.stat(path or "/") is not None)
        matches = _compiled(part)
        found = ["%s/%s" % (path, name) for path in found for name in seen.names(path or "/") if matches.match(name)]
    return found


def _compiled(part: str) -> Pattern[str]:
    """The pattern of one name. A leading dot is matched only by a dot."""
    wanted = translate(part.replace("[^", "[!"))
    try:
        return re.compile(wanted if part.startswith(".") else r"(?!\.)" + wanted)
    except re.error:  # A range such as [z-a].
        return re.compile(re.escape(part) + "$")


def _root(machine: Machine, pid: int) -> str:
    """The folder under which the process's files are, or nothing when it sees the files that fleet sees."""
    root = machine.real_path("/proc/%d/root" % pid)
    theirs, ours = (machine.real_path("/proc/%s/ns/mnt" % one) for one in (pid, "self"))
    same = root == "/" or root.startswith("/proc/")
    return "" if same and os.path.basename(theirs) == os.path.basename(ours) else "/proc/%d/root" % pid
