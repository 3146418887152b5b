"""How the host's own tools (dpkg, rpm, systemctl) are run: in a known environment, and not for ever."""

TOOL_TIMEOUT_S = 20.0
TOOL_ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
