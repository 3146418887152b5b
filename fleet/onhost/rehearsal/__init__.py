"""The rehearsal: the upgrade tried on a private copy of the host, in the running master's own world. It leaves no trace.

May import `instance`, `nginx`, `state`, `system` and `reasons`. `rehearse` is the door; docs/rehearsal.md says how it works.
"""
