"""The command line of a master, read from its process title, and the paths that it implies.

A title joins the arguments with spaces, so splitting it breaks `-g "daemon off;"` apart. nginx has few options, each with
at most one value, which is enough to put the pieces together again (nginx.c: ngx_get_options).
"""

import os
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

FLAGS = "?hvVtTq"
VALUED = "pcges"


class CommandLine(NamedTuple):
    """How a master was started: `program` is argv[0]; the other fields are the values of -p, -c, -g and -e."""

    program: str
    prefix: Optional[str] = None
    config: Optional[str] = None
    directives: str = ""
    error_log: Optional[str] = None


def grouped(argv: Sequence[str]) -> Tuple[str, ...]:
    """The arguments as nginx got them, from arguments split at every space. Arguments that are whole stay unchanged."""
    words = " ".join(argv).split(" ")
    found = [words[0]]
    index = 1
    while index < len(words) and not _is_option(words[index]):
        found[0] += " " + words[index]
        index += 1
    while index < len(words):
        end = _end_of_option(words, index)
        found += _split_option(words[index:end])
        index = end
    return tuple(found)


def read_command_line(argv: Sequence[str]) -> CommandLine:
    """The command line that these arguments give. When an option is repeated, the last one counts, as in nginx."""
    exact = grouped(argv)
    values: Dict[str, str] = {}
    index = 1
    while index < len(exact):
        letter, glued = exact[index][1:2], exact[index][2:]
        index += 1
        if letter not in VALUED or not letter:
            continue
        if not glued and index < len(exact):
            glued = exact[index]
            index += 1
        values[letter] = glued
    return CommandLine(exact[0], values.get("p"), values.get("c"), values.get("g", ""), values.get("e"))


def under(folder: str, path: str) -> str:
    """The path; a relative one is taken from the folder, as nginx does (ngx_get_full_name)."""
    return path if path.startswith("/") else os.path.join(folder, path)


def _is_option(word: str) -> bool:
    return len(word) > 1 and word[0] == "-" and word[1] in FLAGS + VALUED


def _end_of_option(words: List[str], index: int) -> int:
    """The index after the option at `index` and its value; the value runs up to the next option."""
    letter = words[index][1]
    if letter in FLAGS:
        return index + 1
    end = index + 1
    if len(words[index]) == 2 and end < len(words):
        end += 1
    while end < len(words) and not (_is_option(words[end]) and _may_end(letter, words[end - 1])):
        end += 1
    return end


def _may_end(letter: str, word: str) -> bool:
    """Whether a value can end with this word: directives end with `;`, other values anywhere."""
    return letter != "g" or word.endswith((";", "}")) or word == ""


def _split_option(words: List[str]) -> List[str]:
    if len(words) == 1 or len(words[0]) > 2:
        return [" ".join(words)]
    return [words[0], " ".join(words[1:])]
