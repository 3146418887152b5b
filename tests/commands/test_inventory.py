"""`fleet inventory`: the selected hosts."""

import json

from fleet import cli
from tests.support.shell import Shell


def test_inventory_lists_the_selected_hosts(shell: Shell) -> None:
    assert shell("inventory", "--limit", "web-02", "--json") == 0

    document = json.loads(shell.out)
    assert [host["name"] for host in document["hosts"]] == ["web-02"]
    assert document["hosts"][0]["labels"] == {"zone": "eu-1"}
    assert shell("inventory") == 0
    assert "192.0.2.4" in shell.out


def test_a_missing_inventory_is_refused_with_the_remedy(shell: Shell) -> None:
    assert cli.run(("status",), shell.environment) == 2
    assert "-i" in shell.capsys.readouterr().err
