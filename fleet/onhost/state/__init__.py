"""What the host keeps between visits: releases, record, fence, claim and lease.

May import `systemd`, `packages`, `system`, and from `bootstrap` how long an upload may lie idle.
"""
