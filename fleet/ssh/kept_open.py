"""The conversations that this process keeps open between two visits to their hosts.

Each is in one place at a time: taken by a visit, or kept here. A host is known by what the inventory says of it and by the
way to connect; its requests name their rollouts themselves. The number of kept conversations is limited, because each
has a thread and a socket here and a Python on its host.

A rollout visits its hosts in the same order again and again. If the one used longest ago had to go, a rollout with more
hosts than that would find none of them open. So a newcomer goes first, unless another one was not used for `STALE_S`.
"""

import threading
import time
from collections.abc import Hashable

from fleet.ssh.conversation import Conversation

STALE_S = 60.0


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
        """Keeps the conversation, if there is room for it among `most` kept ones; else it is closed."""
        with self._lock:
            ended = [self._kept.pop(key)] if key in self._kept else []
            if len(self._kept) >= most:
                oldest = next(iter(self._kept))
                is_stale = time.monotonic() - self._kept[oldest].kept_at > STALE_S
                ended.append(self._kept.pop(oldest) if is_stale else conversation)
            if conversation not in ended:
                self._kept[key] = conversation
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
