"""The inventory that a lab writes, as Ansible YAML."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from fleet.lab.folder import HostEntry, LabPaths
from fleet.lab.hosts import nginx

ZONES = "abc"


def text(paths: LabPaths, hosts: Iterable[HostEntry], own: Mapping[str, Mapping[str, str | bool | None]]) -> str:
    """The text of the inventory. `own` has, by host, variables that override the common ones; `None` removes one."""
    entries = tuple(hosts)
    layout: dict[str, str] = {"nginx_binary": nginx.PROGRAM, "nginx_pid_file": nginx.PID_FILE}
    # A host can't remove a variable of `all`: if one host must not have them, each host gets its own.
    shared = not any(None in own.get(host.name, {}).values() for host in entries)
    lines = [
        f"# Written by `fleet lab up` for the lab {paths.name} in {paths.folder}; `fleet lab down` removes it.",
        "all:",
        "  vars:",
        "    ansible_user: root",
        f"    ansible_ssh_private_key_file: {json.dumps(str(paths.private_key))}",
        "    fleet_ssh_config: none",
        f"    fleet_known_hosts: {json.dumps(str(paths.known_hosts))}",
        *(f"    {name}: {json.dumps(value)}" for name, value in layout.items() if shared),
        "    fleet_probes:",
        '      - {url: "http://127.0.0.1/health", status: 200}',
        "  hosts:",
    ]
    for host in entries:
        variables: dict[str, str | bool | None] = {
            "ansible_host": host.address,
            "zone": ZONES[(host.number - 1) % len(ZONES)],
            **({} if shared else layout),
            **own.get(host.name, {}),
        }
        plain = ", ".join(f"{name}: {json.dumps(value)}" for name, value in variables.items() if value is not None)
        lines.append(f"    {host.name}: {{{plain}}}")
    return "\n".join(lines) + "\n"


def is_ours(paths: LabPaths, path: Path) -> bool:
    """Whether this lab wrote the file at `path`."""
    try:
        return f"in {paths.folder};" in path.read_text().partition("\n")[0]
    except (OSError, UnicodeDecodeError):
        return False
