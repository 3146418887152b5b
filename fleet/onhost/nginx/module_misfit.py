"""A dynamic module that a binary can't load: which file it is, why, and what to do, read from nginx's own line.

nginx loads a module only into the version and the build that it was made for, and says so in one of five lines
(`ngx_load_module`, `ngx_add_module`).
"""

import re
from typing import NamedTuple, Optional

VERSION = re.compile(r'module "([^"]+)" version (\d+) instead of (\d+)')
OTHER_BUILD = re.compile(r'module "([^"]+)" is not binary compatible')
BUILT_IN = re.compile(r'module "([^"]+)" is already loaded')
NOT_OPENED = re.compile(r'dlopen\(\) "([^"]+)" failed \((.*)\)')
NO_MODULE = re.compile(r'dlsym\(\) "([^"]+)", "([^"]+)" failed \(')
PUT_RIGHT = (
    "Put the file that was built together with {binary} there: copy it beside {path}, then rename it over (`mv`); never "
    "write into the old file, which the running nginx has mapped"
)
INSTALL = "Install that library on the host (`ldd %s` lists what is missing)"
NOT_OPENED_HERE = "cannot open shared object file"


class Misfit(NamedTuple):
    """`module` is a file, or the name of a module; `why` says what is wrong with it, `cure` what to do."""

    module: str
    why: str
    cure: str


def read_misfit(line: str, binary: str) -> Optional[Misfit]:
    """The module that this line of `binary` is about, or `None` for a line about something else."""
    version, other, built_in = VERSION.search(line), OTHER_BUILD.search(line), BUILT_IN.search(line)
    if version:
        why = "it is for nginx %s, and %s is %s" % (_dotted(version[2]), binary, _dotted(version[3]))
        return _to_replace(version[1], why, binary)
    if other:
        return _to_replace(other[1], "it was built with other options than %s" % binary, binary)
    if built_in:
        cure = "Remove its `load_module` line from the configuration, or load it only once"
        return Misfit(built_in[1], "%s has it built in, or loads it twice" % binary, cure)
    opened, symbol = NOT_OPENED.search(line), NO_MODULE.search(line)
    if opened:
        return _not_loaded(opened[1], opened[2], binary)
    return _to_replace(symbol[1], "it is no module of nginx (it has no %s)" % symbol[2], binary) if symbol else None


def _to_replace(path: str, why: str, binary: str) -> Misfit:
    return Misfit(path, why, PUT_RIGHT.format(binary=binary, path=path))


def _dotted(number: str) -> str:
    """`1026003` as nginx writes it elsewhere: 1.26.3."""
    whole = int(number)
    return "%d.%d.%d" % (whole // 1000000, whole // 1000 % 1000, whole % 1000)


def _not_loaded(path: str, text: str, binary: str) -> Misfit:
    """`text` is the loader's: it begins with the file that is wrong, which may be a library that the module needs."""
    if not text.startswith(path) and NOT_OPENED_HERE in text:
        return Misfit(path, "it can't be loaded (%s)" % text, INSTALL % path)
    own = text[len(path) + 2 :] if text.startswith(path + ": ") else text
    return _to_replace(path, "it can't be loaded (%s)" % own, binary)
