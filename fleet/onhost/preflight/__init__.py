"""Preflight: every reason against an upgrade of this host. It changes nothing that runs.

May import `rehearsal`, `instance`, `nginx`, `state`, `systemd`, `packages`, `system` and `reasons`. `checks`
is the door; CONTRIBUTING.md says how to add a check.
"""
