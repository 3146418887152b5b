"""The commands of `fleet lab` as far as they need no host: arguments, names, paths and texts."""

from collections.abc import Mapping
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from click.testing import CliRunner

from fleet.errors import Refused
from fleet.lab import inventory_file, network
from fleet.lab.cli import lab
from fleet.lab.commands import inventory_copy, spread
from fleet.lab.folder import HostEntry, LabPaths, Stage, State, lab_paths, read_state, write_state
from fleet.lab.kinds.all_kinds import KINDS


@pytest.mark.parametrize(
    ("wanted", "spread_out"),
    [
        ([], {}),
        (["no-python"], {"lab-006": "no-python"}),
        (["no-python=2"], {"lab-006": "no-python", "lab-005": "no-python"}),
        (["no-python=lab-002"], {"lab-002": "no-python"}),
        (["poisoned", "no-python=lab-006"], {"lab-006": "no-python", "lab-005": "poisoned"}),
        (["systemd=2"], {"lab-006": "systemd", "lab-005": "systemd"}),
    ],
)
def test_odd_hosts_take_the_last_places_that_are_free(wanted: list[str], spread_out: Mapping[str, str]) -> None:
    assert spread(wanted, 6) == spread_out


def test_systemd_without_a_number_is_for_every_host_that_has_no_other_kind() -> None:
    assert spread(["systemd", "no-python"], 3) == {"lab-001": "systemd", "lab-002": "systemd", "lab-003": "no-python"}


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (["purple"], "There is no kind of host 'purple'"),
        (["no-python=7"], "only 6 hosts are left"),
        (["no-python=lab-001", "poisoned=lab-001"], "lab-001 already has the kind no-python"),
    ],
)
def test_kinds_that_do_not_fit_are_refused(wanted: list[str], words: str) -> None:
    with pytest.raises(Refused, match=words):
        spread(wanted, 6)


def test_the_inventory_lies_in_the_project_where_there_is_a_folder_for_it(tmp_path: Path) -> None:
    assert inventory_copy("lab", tmp_path) == tmp_path / "lab.yaml"
    assert inventory_copy("mine", tmp_path) == tmp_path / "mine.lab.yaml"
    assert inventory_copy("mine", tmp_path / "none") is None


def test_a_variable_that_one_host_must_not_have_is_given_to_each_of_the_others() -> None:
    hosts = [HostEntry("lab-001", 1, "10.64.0.2"), HostEntry("lab-002", 2, "10.64.0.3")]

    text = inventory_file.text(
        LabPaths("lab"), hosts, {"lab-002": {"nginx_binary": None, "nginx_pid_file": None, "ansible_become": True}}
    )

    assert (
        'lab-001: {ansible_host: "10.64.0.2", zone: "a", nginx_binary: "/usr/local/nginx/sbin/nginx", nginx_pid' in text
    )
    assert 'lab-002: {ansible_host: "10.64.0.3", zone: "b", ansible_become: true}\n' in text
    assert "  nginx_binary" not in text


def test_only_the_lab_s_own_inventory_is_known_as_its_own(tmp_path: Path) -> None:
    mine, other = LabPaths("lab", tmp_path), LabPaths("lab2", tmp_path)
    path = tmp_path / "inventory.yaml"
    path.write_text(inventory_file.text(mine, [], {}))

    assert inventory_file.is_ours(mine, path)
    assert not inventory_file.is_ours(other, path)
    assert not inventory_file.is_ours(mine, tmp_path / "none")


@pytest.mark.parametrize("name", ["", "-a", "a/b", "..", "A", "a" * 41, "lab\n"])
def test_a_name_that_could_be_anything_else_is_no_name_of_a_lab(name: str) -> None:
    with pytest.raises(Refused, match="can't be named"):
        lab_paths(name)


def test_a_folder_that_a_mount_can_not_be_given_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="characters that mount options can't have"):
        lab_paths("lab", tmp_path / "a:b")


def test_names_of_interfaces_are_short_enough_and_differ_between_labs() -> None:
    long, other = LabPaths("l" * 40), LabPaths("lab")

    assert len(long.link(network.MOST_HOSTS)) <= 15
    assert long.prefix != other.prefix


def test_every_host_has_its_own_addresses_within_the_subnet() -> None:
    subnet = IPv4Network("10.64.4.0/22")
    addresses = [network.address(subnet, number) for number in range(network.MOST_HOSTS + 1)]

    assert addresses[:2] == ["10.64.4.1", "10.64.4.2"]
    assert len({network.mac(address) for address in addresses}) == len(addresses)
    assert subnet.broadcast_address not in map(type(subnet.broadcast_address), addresses)


def test_a_written_state_is_read_again_and_nonsense_is_no_state(tmp_path: Path) -> None:
    paths = LabPaths("lab", tmp_path)
    state = State(
        Stage.UP, "boot", None, "10.64.0.0/22", (HostEntry("lab-001", 1, "10.64.0.2", "plain"),), ("/opt",), "x"
    )

    write_state(paths, state)
    assert read_state(paths) == state
    paths.state.write_text('{"stage": "sideways"}')
    assert read_state(paths) is None


def test_every_kind_is_listed_with_its_description() -> None:
    listed = CliRunner().invoke(lab, ["kinds"]).output.splitlines()

    assert [line.split()[0] for line in listed] == list(KINDS)
    assert all(len(line.split()) > 3 for line in listed)


def test_a_loss_that_is_no_percentage_is_bad_usage() -> None:
    done = CliRunner().invoke(lab, ["slow", "lab-001", "--loss", "much"])

    assert done.exit_code == 2
    assert "is not a percentage" in done.output
