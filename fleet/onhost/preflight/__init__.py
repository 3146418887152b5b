"""Every reason against an upgrade, found without touching what runs.

May import `nginx`, `state`, `system`, `reasons`.
"""
