"""How fleet runs the host's own tools (dpkg, rpm, systemctl): in a fixed environment, with a timeout in seconds."""

TOOL_TIMEOUT_S = 20.0
TOOL_ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
