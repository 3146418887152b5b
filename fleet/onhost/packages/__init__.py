"""The host's package manager: what it knows of the binary, and what it is about to do to it.

May import `system` and `systemd`.
"""
