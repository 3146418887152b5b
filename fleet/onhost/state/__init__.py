"""What the host keeps between visits: releases, record, fence, claim and lease, and its watcher.

May import `systemd`, `packages`, `system` and `reasons`, and from `bootstrap` psutil, and how long an upload may lie idle.
"""
