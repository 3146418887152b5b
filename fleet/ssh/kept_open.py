"""The conversations that this process keeps open between two visits to their hosts, the least recently used first.

Each is in one place at a time: taken by a visit, or kept here. A host is known by what the inventory says of it and by the
way to connect; its requests name their rollouts themselves. The number of kept conversations is limited, because each
has a thread and a socket here and a Python on its host.
"""

import threading
from collections.abc import Hashable

from fleet.ssh.conversation import Conversation


class KeptOpen:
    """The kept conversations. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[Hashable, Conversation] = {}

    def take(self, key: Hashable) -> Conversation | None:
        """The conversation with this host, which is the caller's now; `None` where none is kept."""
        with self._lock:
            return self._kept.pop(key, None)

    def keep(self, key: Hashable, conversation: Conversation, most: int) -> None:
        """Keeps the conversation, and closes those that were used longest ago beyond `most`."""
        with self._lock:
            ended = [self._kept.pop(key)] if key in self._kept else []
            self._kept[key] = conversation
            while len(self._kept) > most:
                ended.append(self._kept.pop(next(iter(self._kept))))
        for each in ended:
            each.close()

    def close(self) -> None:
        """Closes all of them."""
        with self._lock:
            ended, self._kept = list(self._kept.values()), {}
        for each in ended:
            each.close()


KEPT_OPEN = KeptOpen()
"""Those of this process."""
