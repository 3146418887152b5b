"""`fleet inventory`: the selected hosts, with labels and layout."""

from rich.table import Table
from rich.text import Text

from fleet.environment import CommandOptions
from fleet.host import SSH_PORT, Host
from fleet.onhost.text import safe
from fleet.runs.engine_run import command_output, selected_hosts

SCHEMA = "fleet.inventory/1"


def run(options: CommandOptions, as_json: bool) -> int:
    """Prints the hosts; returns 0."""
    output = command_output(options)
    hosts = selected_hosts(options, output, logs_in=False)
    if as_json:
        output.document({"schema": SCHEMA, "hosts": [document(host) for host in hosts]})
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("host", "address", "user", "groups", "labels", "layout"):
        table.add_column(name, overflow="fold")
    for host in hosts:
        table.add_row(*(Text(safe(word)) for word in _row(host)))
    output.result(table)
    return 0


def document(host: Host) -> dict[str, object]:
    """The host in the document `fleet.inventory/1`."""
    return {
        "name": host.name,
        "address": host.address,
        "port": host.port or SSH_PORT,
        "user": host.user,
        "ssh_arguments": [*host.ssh_arguments.first, *host.ssh_arguments.last],
        "groups": list(host.groups),
        "labels": dict(host.labels),
        "unrendered": list(host.unrendered),
        "layout": host.layout._asdict(),
        "probes": [probe._asdict() for probe in host.probes],
        "where": host.where,
    }


def _row(host: Host) -> tuple[str, ...]:
    address = f"[{host.address}]" if ":" in host.address else host.address
    layout = [f"{name}={value}" for name, value in host.layout._asdict().items() if value and name != "state_dir"]
    return (
        host.name,
        address if host.port in (None, SSH_PORT) else f"{address}:{host.port}",
        host.user or "",
        ", ".join(host.groups),
        ", ".join(f"{key}={value}" for key, value in host.labels),
        " ".join(layout) or "found on the host",
    )
