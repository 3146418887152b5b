"""The JSON form of what both ends exchange and the host keeps: any NamedTuple of enums, tuples and plain values.

The types say what a field may hold, so no separate schema can drift.
"""

import json
from enum import Enum
from typing import Any, Dict, List, Tuple, Union

MOST = 2**64 - 1
"""The largest number that either end may write: 64 bits, as a kernel counts (the inode of a network file system)."""


class Malformed(ValueError):
    """A line that does not fit the expected type."""


def encode(value: Any) -> str:
    """One line of JSON for a protocol value."""
    return json.dumps(_plain(value), separators=(",", ":"), sort_keys=True)


def decode(kind: Any, line: str) -> Any:
    """The value of type `kind` that `line` holds. Raises `Malformed`, naming the field."""
    try:
        data = json.loads(line)
    except ValueError as error:
        raise Malformed("not JSON: %s" % error)
    return from_plain(kind, data)


def from_plain(kind: Any, data: Any, where: str = "") -> Any:
    """`data`, as parsed from JSON, as a value of type `kind`. Unknown fields are ignored, so that either end may add one."""
    origin = getattr(kind, "__origin__", None)
    if kind is Any:
        return data
    if origin is Union:
        return None if data is None else from_plain(_inner(kind), data, where)
    if origin in (tuple, Tuple):
        return _tuple(kind, data, where)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _enum(kind, data, where)
    if hasattr(kind, "_fields"):
        return _record(kind, data, where)
    if isinstance(data, int) and abs(data) > MOST:
        raise Malformed("%s: a number of more than 64 bits" % (where or "value"))
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not isinstance(data, kind) or (kind is int and isinstance(data, bool)):
        raise Malformed("%s: expected %s, got %r" % (where or "value", kind.__name__, data))
    return data


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "_asdict"):
        return {name: _plain(getattr(value, name)) for name in value._fields}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value


def _inner(kind: Any) -> Any:
    return next(argument for argument in kind.__args__ if argument is not type(None))


def _enum(kind: Any, data: Any, where: str) -> Any:
    try:
        return kind(data)
    except ValueError:
        raise Malformed("%s: %r is none of %s" % (where, data, ", ".join(str(item.value) for item in kind)))


def _tuple(kind: Any, data: Any, where: str) -> Any:
    if not isinstance(data, list):
        raise Malformed("%s: expected a list, got %r" % (where, data))
    inner = kind.__args__
    if len(inner) == 2 and inner[1] is Ellipsis:
        return tuple(from_plain(inner[0], item, "%s[%d]" % (where, n)) for n, item in enumerate(data))
    if len(inner) != len(data):
        raise Malformed("%s: expected %d items, got %d" % (where, len(inner), len(data)))
    return tuple(from_plain(kind, item, "%s[%d]" % (where, n)) for n, (kind, item) in enumerate(zip(inner, data)))


def _record(kind: Any, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise Malformed("%s: expected an object, got %r" % (where or kind.__name__, data))
    defaults = getattr(kind, "_field_defaults", {})
    values: Dict[str, Any] = {}
    missing: List[str] = []
    for name in kind._fields:
        if name in data:
            values[name] = from_plain(kind.__annotations__[name], data[name], (where + "." if where else "") + name)
        elif name not in defaults:
            missing.append(name)
    if missing:
        raise Malformed("%s: %s missing" % (where or kind.__name__, ", ".join(missing)))
    return kind(**values)
