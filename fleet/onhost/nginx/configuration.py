"""The few facts that fleet needs of an nginx configuration, read from what `nginx -T` prints.

`-T` prints the files on the disk, each once, in the order in which nginx opens them. It does not show what a running
master has in memory. fleet reads the files by nginx's own rules: quotes, escapes, comments, blocks, `include` replaced
in place. It ignores directives that it does not know and skips blocks of Lua.
"""

import fnmatch
import os
import re
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

from fleet.onhost.nginx.command_line import CommandLine, under
from fleet.onhost.system.machine import Machine

FILE_LINE = re.compile(r"^# configuration file (.+):$", re.MULTILINE)
OPEN, CLOSE, END = "{", "}", ";"
SPACES = " \t\r\n"
DEEPEST_INCLUDE = 20


class Directive(NamedTuple):
    """One directive: its words, and its block if it has one."""

    words: Tuple[str, ...]
    block: Optional[Tuple["Directive", ...]] = None

    @property
    def name(self) -> str:
        return self.words[0]


class Listen(NamedTuple):
    """A `listen` as written: its context (`http`, `stream`, `mail`) and its words. No words: the default of a server."""

    context: str
    words: Tuple[str, ...]


class Configuration(NamedTuple):
    """What the files say. A value is `None` when no file sets it and nginx uses the built-in one."""

    files: Tuple[str, ...]
    patterns: Tuple[str, ...]
    listens: Tuple[Listen, ...]
    daemon: bool
    master_process: bool
    pid: Optional[str]
    error_logs: Tuple[Tuple[str, ...], ...]
    worker_processes: str
    quic_bpf: bool
    env: Tuple[str, ...]
    user: Optional[str]
    load_modules: Tuple[str, ...] = ()


def read_configuration(dump: str, command: CommandLine) -> Optional[Configuration]:
    """The facts in the output of `nginx -T` for this command line; `None` when it printed no file."""
    return _read(_files(dump), command)


def read_disk(machine: Machine, main: str, command: CommandLine) -> Optional[Configuration]:
    """The facts in the files on the disk, without running nginx; `None` when the file does not exist.

    `nginx -T` creates a missing pid file, so it can't be used to find out where the pid file is.
    """
    files: Dict[str, str] = {}
    _collect(machine, main, os.path.dirname(main), files)
    return _read(files, command)


def _read(files: Dict[str, str], command: CommandLine) -> Optional[Configuration]:
    if not files:
        return None
    main = next(iter(files))
    patterns: List[str] = []
    tree = _included(_parse(files[main]), files, os.path.dirname(main), patterns, 0)
    top = _parse(command.directives) + tree
    pid = _value(top, "pid")
    workers = _value(top, "worker_processes")
    return Configuration(
        files=tuple(files),
        patterns=tuple(patterns),
        listens=tuple(_listens(top)),
        daemon=_value(top, "daemon") != "off",
        master_process=_value(top, "master_process") != "off",
        pid=pid,
        error_logs=tuple(one.words[1:] for one in top if one.name == "error_log"),
        worker_processes=workers or "1",
        quic_bpf=_value(top, "quic_bpf") == "on",
        env=tuple(one.words[1].partition("=")[0] for one in top if one.name == "env" and len(one.words) > 1),
        user=_value(top, "user"),
        load_modules=tuple(one.words[1] for one in top if one.name == "load_module" and len(one.words) > 1),
    )


def _collect(machine: Machine, name: str, folder: str, files: Dict[str, str]) -> None:
    """The file and all files that it includes, as `-T` would print them."""
    text = machine.read(name)
    if text is None or name in files:
        return
    files[name] = text
    for pattern in _includes(_parse(text)):
        for found in _expanded(machine, under(folder, pattern)):
            _collect(machine, found, folder, files)


def _includes(tree: Tuple[Directive, ...]) -> Iterator[str]:
    for one in tree:
        if one.name == "include" and len(one.words) > 1:
            yield one.words[1]
        yield from _includes(one.block or ())


def _expanded(machine: Machine, pattern: str) -> List[str]:
    """The existing paths that match a pattern, in order."""
    found = ["/"]
    for part in pattern.strip("/").split("/"):
        if not re.search(r"[*?\[]", part):
            found = [os.path.join(folder, part) for folder in found]
            continue
        found = [
            os.path.join(folder, name) for folder in found for name in machine.names(folder) if _matches(name, part)
        ]
    return found


def _files(dump: str) -> Dict[str, str]:
    """The text of each file, in order. Output before the first file (warnings, `syntax is ok`) is dropped."""
    marks = list(FILE_LINE.finditer(dump))
    ends = [mark.start() for mark in marks[1:]] + [len(dump)]
    found: Dict[str, str] = {}
    for mark, end in zip(marks, ends):
        name, text = mark.group(1), dump[mark.end() : end]
        if name not in found:
            found[name] = text
    return found


def _value(top: Tuple[Directive, ...], name: str) -> Optional[str]:
    for one in top:
        if one.name == name and len(one.words) > 1:
            return one.words[1]
    return None


def _listens(top: Tuple[Directive, ...]) -> Iterator[Listen]:
    for context in ("http", "stream", "mail"):
        for block in (one.block for one in top if one.name == context and one.block):
            for server in (one.block for one in block if one.name == "server" and one.block is not None):
                own = [one.words[1:] for one in server if one.name == "listen" and len(one.words) > 1]
                yield from (Listen(context, words) for words in own)
                if not own and context == "http":
                    yield Listen(context, ())


def _included(
    tree: Tuple[Directive, ...], files: Dict[str, str], folder: str, patterns: List[str], depth: int
) -> Tuple[Directive, ...]:
    """The tree with each `include` replaced by the directives of the files that it names."""
    found: List[Directive] = []
    for one in tree:
        if one.name == "include" and len(one.words) > 1 and depth < DEEPEST_INCLUDE:
            pattern = under(folder, one.words[1])
            patterns.append(pattern)
            for name in files:
                if _matches(name, pattern):
                    found += _included(_parse(files[name]), files, folder, patterns, depth + 1)
        elif one.block is not None:
            found.append(Directive(one.words, _included(one.block, files, folder, patterns, depth)))
        else:
            found.append(one)
    return tuple(found)


def _matches(name: str, pattern: str) -> bool:
    """Match as glob(3) does: part by part; a leading dot is matched only by a dot in the pattern."""
    parts, wanted = name.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(
        fnmatch.fnmatchcase(part, want) and not (part.startswith(".") and not want.startswith("."))
        for part, want in zip(parts, wanted)
    )


def _parse(text: str) -> Tuple[Directive, ...]:
    """The directives of one file. An unclosed block ends with the file: `-T` prints only what nginx accepted."""
    stack: List[Tuple[Tuple[str, ...], List[Directive]]] = [((), [])]
    words: List[str] = []
    for word, quoted in _words(text):
        if quoted or word not in (OPEN, CLOSE, END):
            words.append(word)
        elif word == OPEN:
            stack.append((tuple(words), []))
            words = []
        elif word == END and words:
            stack[-1][1].append(Directive(tuple(words)))
            words = []
        elif word == CLOSE and len(stack) > 1:
            _close(stack)
            words = []
    while len(stack) > 1:
        _close(stack)
    return tuple(stack[0][1])


def _close(stack: List[Tuple[Tuple[str, ...], List[Directive]]]) -> None:
    words, inner = stack.pop()
    if words:
        stack[-1][1].append(Directive(words, tuple(inner)))


def _words(text: str) -> Iterator[Tuple[str, bool]]:
    """The words and marks of a file, and whether each was quoted (ngx_conf_read_token)."""
    index, length, last = 0, len(text), ""
    while index < length:
        letter = text[index]
        if letter in SPACES:
            index += 1
        elif letter == "#":
            index = _line_end(text, index)
        elif letter in (OPEN, CLOSE, END):
            yield letter, False
            index += 1
            if letter == OPEN and last.endswith("_by_lua_block"):
                index = _lua_end(text, index)
            last = ""
        elif letter in "\"'":
            word, index = _quoted(text, index)
            yield word, True
        else:
            word, index = _plain(text, index)
            last = last or word
            yield word, False


def _line_end(text: str, index: int) -> int:
    end = text.find("\n", index)
    return len(text) if end < 0 else end


def _quoted(text: str, index: int) -> Tuple[str, int]:
    mark, index, found = text[index], index + 1, []
    while index < len(text) and text[index] != mark:
        if text[index] == "\\" and index + 1 < len(text):
            index += 1
        found.append(text[index])
        index += 1
    return "".join(found), index + 1


def _plain(text: str, index: int) -> Tuple[str, int]:
    """An unquoted word. `${name}` opens no block."""
    start = index
    while index < len(text) and text[index] not in SPACES + ";":
        if text[index] == "\\":
            index += 1
        elif text[index] == OPEN and text[index - 1 : index] != "$":
            break
        index += 1
    return text[start:index], index


def _lua_end(text: str, index: int) -> int:
    """The index of the brace that ends a block of Lua. Braces in Lua strings and comments are skipped."""
    depth = 1
    while index < len(text):
        letter = text[index]
        if text.startswith("--", index):
            index = _line_end(text, index)
            continue
        if letter in "\"'":
            index = _quoted(text, index)[1]
            continue
        depth += (letter == OPEN) - (letter == CLOSE)
        if depth == 0:
            return index
        index += 1
    return index
