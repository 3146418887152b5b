"""The network namespace of another process: a container has one, and a unit with PrivateNetwork."""

import ctypes
import os
import threading
from typing import Callable, List, TypeVar

NEW_NETWORK = 0x40000000  # CLONE_NEWNET of linux/sched.h

Result = TypeVar("Result")


def in_network_of(pid: int, act: Callable[[], Result]) -> Result:
    """What `act` gives in the network namespace of this process. Raises OSError, and what `act` raises.

    setns(2) moves one thread, so a thread of its own does it, and ends.
    """
    results: List[Result] = []
    errors: List[BaseException] = []

    def there() -> None:
        try:
            _enter(pid)
            results.append(act())
        except BaseException as error:  # It is raised where it can be caught.
            errors.append(error)

    thread = threading.Thread(target=there)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _enter(pid: int) -> None:
    theirs = os.open("/proc/%d/ns/net" % pid, os.O_RDONLY)
    try:
        if os.readlink("/proc/%d/ns/net" % pid) == os.readlink("/proc/self/ns/net"):
            return
        if ctypes.CDLL(None, use_errno=True).setns(theirs, NEW_NETWORK) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), "/proc/%d/ns/net" % pid)
    finally:
        os.close(theirs)
