"""What an inventory means, and how an invalid one is refused."""

import re
from pathlib import Path

import pytest

from fleet.cli import run
from fleet.errors import InventoryError
from fleet.host import Host
from fleet.inventory import Inventory, load
from fleet.onhost.protocol import Layout, Probe
from tests.support.places import ROOT

BAD = Path(__file__).parent / "bad-inventories"
EXAMPLE = ROOT / "inventories" / "example.yaml"


def read(tmp_path: Path, *texts: str) -> Inventory:
    """The inventory of these texts, each a file of its own."""
    paths = [tmp_path / f"hosts-{number}.yaml" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text, "utf-8")
    return load(paths)


def only_host(tmp_path: Path, variables: str) -> Host:
    """The one host of an inventory, with these variables in flow style."""
    return read(tmp_path, f"all: {{hosts: {{web-01: {{{variables}}}}}}}").hosts[0]


def names(inventory: Inventory) -> list[str]:
    return [host.name for host in inventory.hosts]


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("case", sorted(BAD.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_bad_inventory_is_refused_with_file_line_and_what_is_allowed(
    case: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first line of each case holds the line number, if the message has one, and the message."""
    monkeypatch.chdir(BAD)
    expected = re.sub(r"^# (?=[0-9]+: )", f"{case.name}:", case.read_text("utf-8").splitlines()[0])
    expected = re.sub(r"^# ", f"{case.name}: ", expected)

    with pytest.raises(InventoryError) as refused:
        load([Path(case.name)]).select()

    if expected != f"{case.name}: several":
        assert str(refused.value) == expected
    assert refused.value.exit_code == 2


def test_all_problems_of_a_file_are_reported_at_once_in_the_order_of_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BAD)

    with pytest.raises(InventoryError) as refused:
        load([Path("every-problem-at-once.yaml")])

    places = [line.split(": ")[0].rpartition(":")[2] for line in str(refused.value).splitlines()]
    assert places == ["3", "3", "6", "7"]


def test_the_command_prints_each_problem_on_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inventory", "-i", str(BAD / "every-problem-at-once.yaml")]) == 2

    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(str(BAD))[0] for line in lines] == ["fleet: "] * 4


def test_after_ten_problems_the_others_are_counted(tmp_path: Path) -> None:
    lines = "".join(f"    web-{number:02}: {{fleet_x{number}: 1}}\n" for number in range(14))

    with pytest.raises(InventoryError) as refused:
        read(tmp_path, f"all:\n  hosts:\n{lines}")

    assert len(str(refused.value).splitlines()) == 11
    assert str(refused.value).endswith("… and 4 more problems.")


def test_a_wrong_variable_of_a_range_is_reported_once(tmp_path: Path) -> None:
    with pytest.raises(InventoryError) as refused:
        read(tmp_path, "all:\n  hosts:\n    web-[01:20]: {ansible_port: 0}\n").select()

    assert len(str(refused.value).splitlines()) == 1


def test_the_annotated_example_is_an_inventory() -> None:
    inventory = load([EXAMPLE])

    assert len(inventory.hosts) == 24
    edge = inventory.select(["edge.example.net"])[0]
    assert (edge.address, edge.port, edge.user, edge.become) == ("192.0.2.7", 2222, "deploy", True)
    assert edge.known_hosts == str(EXAMPLE.parent / "known_hosts")
    assert edge.groups == ("edge", "eu-2")
    assert edge.probes == (Probe("https://127.0.0.1/health", host_header="www.example.net"),)
    assert inventory.select(["web-07.example.net"])[0].label("zone") == "eu-2"
    assert inventory.select(["two-b.example.net"])[0].layout.pid_file == "/opt/nginx-b/logs/nginx.pid"


def test_the_example_has_every_supported_variable() -> None:
    from fleet.inventory.host_values import KNOWN
    from fleet.inventory.host_variables import ProbeVariables

    text = EXAMPLE.read_text("utf-8")

    assert [name for name in (*KNOWN, *ProbeVariables.model_fields) if f"{name}:" not in text] == []


def test_a_host_without_variables_has_defaults(tmp_path: Path) -> None:
    inventory = read(tmp_path, "all:\n  hosts:\n    web-01:\n")

    assert inventory.hosts == (
        Host(
            name="web-01",
            address="web-01",
            groups=("ungrouped",),
            layout=Layout(),
            where=f"{tmp_path}/hosts-0.yaml:3",
        ),
    )


def test_connection_variables_mean_what_they_mean_to_ansible(tmp_path: Path) -> None:
    host = only_host(
        tmp_path,
        "ansible_host: 192.0.2.7, ansible_port: '2222', ansible_user: deploy, ansible_become: yes, "
        "ansible_ssh_private_key_file: /keys/deploy, ansible_python_interpreter: /usr/bin/python3.9",
    )

    assert (host.address, host.port, host.user, host.become) == ("192.0.2.7", 2222, "deploy", True)
    assert (host.key_files, host.python) == (("/keys/deploy",), "/usr/bin/python3.9")


def test_older_names_of_connection_variables_are_understood(tmp_path: Path) -> None:
    host = only_host(
        tmp_path,
        "ansible_ssh_host: 192.0.2.7, ansible_ssh_port: 2222, ansible_ssh_user: deploy, "
        "ansible_private_key_file: /keys/deploy",
    )

    assert (host.address, host.port, host.user, host.key_files) == ("192.0.2.7", 2222, "deploy", ("/keys/deploy",))


@pytest.mark.parametrize("user", ["ann@corp.example", "CORP\\ann", "web-deploy$"])
def test_user_names_of_a_directory_service_are_valid(tmp_path: Path, user: str) -> None:
    assert only_host(tmp_path, f"ansible_user: '{user}'").user == user


def test_a_discovered_python_is_left_to_the_host(tmp_path: Path) -> None:
    assert only_host(tmp_path, "ansible_python_interpreter: auto_silent").python is None


def test_an_empty_variable_counts_as_unset(tmp_path: Path) -> None:
    assert only_host(tmp_path, "ansible_port: , nginx_binary: , fleet_probes: ").port is None


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home-of-mine")

    host = only_host(tmp_path, "ansible_ssh_private_key_file: ~/.ssh/k, fleet_known_hosts: ~/.ssh/known")

    assert host.key_files == ("/home-of-mine/.ssh/k",)
    assert host.known_hosts == "/home-of-mine/.ssh/known"


def test_known_hosts_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "vars.yaml").write_text("all: {vars: {fleet_known_hosts: known}}", "utf-8")
    (tmp_path / "hosts.yaml").write_text("all: {hosts: {web-01: }}", "utf-8")

    inventory = load([tmp_path / "hosts.yaml", tmp_path / "sub" / "vars.yaml"])

    assert inventory.hosts[0].known_hosts == str(tmp_path / "sub" / "known")


def test_labels_keep_the_text_of_the_file(tmp_path: Path) -> None:
    host = only_host(
        tmp_path,
        'zone: no, version: 1.10, rack: 007, on: true, at: 2026-01-01, note: , more: [1, {a: "b"}], two: "a\\nb"',
    )

    assert dict(host.labels) == {
        "zone": "no",
        "version": "1.10",
        "rack": "007",
        "on": "true",
        "at": "2026-01-01",
        "note": "",
        "more": '[1,{"a":"b"}]',
        "two": '"a\\nb"',
    }


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("web-[01:03]", ["web-01", "web-02", "web-03"]),
        ("web-[1:10:4]", ["web-1", "web-5", "web-9"]),
        ("web-[:2]", ["web-0", "web-1", "web-2"]),
        ("web-[08:11].example.net", [f"web-{n}.example.net" for n in ("08", "09", "10", "11")]),
        ("[a:c]", ["a", "b", "c"]),
        ("r[1:2]h[a:b]", ["r1ha", "r1hb", "r2ha", "r2hb"]),
        ("2001:db8::7", ["2001:db8::7"]),
    ],
)
def test_a_range_stands_for_its_hosts(written: str, expected: list[str], tmp_path: Path) -> None:
    assert names(read(tmp_path, f'all:\n  hosts:\n    "{written}":\n')) == expected


@pytest.mark.parametrize(
    ("written", "name", "port"),
    [("web-01:2222", "web-01", 2222), ("[2001:db8::7]:2222", "2001:db8::7", 2222), ("web-[1:1]:2222", "web-1", 2222)],
)
def test_a_port_after_the_name_sets_the_port(written: str, name: str, port: int, tmp_path: Path) -> None:
    host = read(tmp_path, f'all:\n  vars: {{ansible_port: 1}}\n  hosts:\n    "{written}":\n').hosts[0]

    assert (host.name, host.address, host.port) == (name, name, port)


def test_the_inner_group_wins_over_the_outer_and_the_host_over_all(tmp_path: Path) -> None:
    inventory = read(
        tmp_path,
        """
        all:
          vars: {a: all, b: all, c: all, d: all}
          children:
            outer:
              vars: {b: outer, c: outer, d: outer}
              children:
                inner:
                  vars: {c: inner, d: inner}
                  hosts:
                    web-01: {d: host}
        """,
    )

    assert dict(inventory.hosts[0].labels) == {"a": "all", "b": "outer", "c": "inner", "d": "host"}
    assert inventory.hosts[0].groups == ("outer", "inner")


def test_on_the_same_level_the_later_name_wins(tmp_path: Path) -> None:
    inventory = read(
        tmp_path,
        """
        zebra: {vars: {who: zebra}, hosts: {web-01: }}
        aardvark: {vars: {who: aardvark}, hosts: {web-01: }}
        """,
    )

    assert inventory.hosts[0].label("who") == "zebra"


def test_variables_of_ungrouped_reach_only_hosts_in_no_other_group(tmp_path: Path) -> None:
    inventory = read(
        tmp_path,
        """
        all: {hosts: {lone: , web-01: }}
        ungrouped: {vars: {who: ungrouped}}
        web: {hosts: {web-01: }}
        """,
    )

    assert [host.label("who") for host in inventory.hosts] == ["ungrouped", None]
    assert inventory.groups["ungrouped"] == ("lone",)


def test_a_later_source_wins_and_adds(tmp_path: Path) -> None:
    inventory = read(
        tmp_path,
        "web: {vars: {a: 1, b: 1}, hosts: {web-01: {c: 1}}}",
        "web: {vars: {b: 2}, hosts: {web-01: {c: 2}, web-02: }}",
    )

    assert dict(inventory.hosts[0].labels) == {"a": "1", "b": "2", "c": "2"}
    assert names(inventory) == ["web-01", "web-02"]


def test_hosts_keep_the_order_of_the_file_and_groups_hold_those_of_their_children(tmp_path: Path) -> None:
    inventory = read(tmp_path, "web: {hosts: {z: , a: }, children: {eu: {hosts: {m: , a: }}}}")

    assert names(inventory) == ["z", "a", "m"]
    assert dict(inventory.groups) == {"all": ("z", "a", "m"), "ungrouped": (), "web": ("z", "a", "m"), "eu": ("a", "m")}


def test_a_host_of_a_range_can_get_more_variables(tmp_path: Path) -> None:
    inventory = read(tmp_path, "all:\n  hosts:\n    web-[1:2]: {zone: a}\n    web-2: {zone: b}\n")

    assert [host.label("zone") for host in inventory.hosts] == ["a", "b"]


def test_merged_maps_give_the_keys_that_are_not_set_here(tmp_path: Path) -> None:
    inventory = read(
        tmp_path,
        "all:\n  hosts:\n    a: &a {zone: a, rack: 1}\n    b: {<<: *a, zone: b}\n    c: {<<: [{rack: 2}, *a]}\n",
    )

    assert [dict(host.labels) for host in inventory.hosts] == [
        {"zone": "a", "rack": "1"},
        {"zone": "b", "rack": "1"},
        {"zone": "a", "rack": "2"},
    ]


def test_a_missing_inventory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match=r"nope\.yaml: no such file"):
        load([tmp_path / "nope.yaml"])


def test_no_inventory_at_all_names_the_option() -> None:
    with pytest.raises(InventoryError, match="-i FILE"):
        load([])


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"all:\n  hosts: {w\xff: }\n")

    with pytest.raises(InventoryError, match="not UTF-8"):
        load([tmp_path / "x.yaml"])


def test_deep_nesting_is_refused_not_a_crash(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match="nested too deeply"):
        read(tmp_path, "a: " + "[" * 5000 + "]" * 5000)


@pytest.mark.parametrize("kind", ["folder", "hosts.ini", "plugin.yaml"])
def test_an_inventory_that_only_ansible_reads_is_refused_without_ansible(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    else:
        path.write_text("plugin: amazon.aws.aws_ec2" if kind.endswith("yaml") else "[web]\nweb-01\n", "utf-8")

    with pytest.raises(InventoryError, match="fleet needs ansible-inventory to read it") as refused:
        load([path])

    assert "--list --yaml --output" in refused.value.remedy


def test_other_formats_are_read_through_ansible_inventory(tmp_path: Path, ansible: None) -> None:
    ini = tmp_path / "hosts"
    ini.write_text("[web]\nw1 zone=eu ansible_port=2222\n[all:vars]\nansible_become=true\n", "utf-8")

    inventory = load([ini])

    host = inventory.hosts[0]
    assert (host.name, host.port, host.become, host.groups, host.labels) == (
        "w1",
        2222,
        True,
        ("web",),
        (("zone", "eu"),),
    )
    assert host.where == str(ini)


def test_an_executable_inventory_is_run_with_list(tmp_path: Path) -> None:
    path = program(
        tmp_path / "hosts.sh",
        """echo '{"web": {"hosts": ["w2", "w1"], "vars": {"zone": "eu"}, "children": ["edge"]}, "edge": ["w3"],
                  "_meta": {"hostvars": {"w1": {"ansible_host": "192.0.2.1"}}}}'""",
    )

    inventory = load([path])

    assert names(inventory) == ["w2", "w1", "w3"]
    assert inventory.hosts[1].address == "192.0.2.1"
    assert inventory.groups["web"] == ("w2", "w1", "w3")
    assert inventory.hosts[2].label("zone") == "eu"


def test_a_host_that_an_executable_lists_in_no_group_is_no_host(tmp_path: Path) -> None:
    """As for Ansible: such a host is mostly one that was removed."""
    path = program(tmp_path / "hosts.sh", """echo '{"web": ["w1"], "_meta": {"hostvars": {"w1": {}, "gone": {}}}}'""")

    assert names(load([path])) == ["w1"]


def test_an_executable_without_meta_is_run_for_each_host(tmp_path: Path) -> None:
    path = program(
        tmp_path / "hosts.sh",
        """[ "$1" = --list ] && echo '{"web": ["w1"]}' || echo "{\\"zone\\": \\"of $2\\"}" """,
    )

    assert load([path]).hosts[0].label("zone") == "of w1"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo no cloud today >&2; exit 3", "exited with 3: no cloud today"),
        ("echo nonsense", "did not print valid JSON"),
        ("echo '[]'", "did not print a JSON object of groups"),
        ("""echo '{"web": 1}'""", "group web must be an object"),
        ("""echo '{"web": {"host": []}}'""", "group web has an unknown key host"),
        ("""echo '{"web": {"hosts": "w1"}}'""", "hosts of group web must be a list"),
        ("""echo '{"web": {"hosts": ["-x"]}}'""", "'-x' is not a valid name"),
        ("""echo '{"web": {"hosts": ["w1"], "vars": {"fleet_probe": "/x"}}}'""", "fleet_probe is unknown"),
        (
            """echo '{"web": {"hosts": ["w1"], "vars": {"ansible_ssh_args": "-W x"}}}'""",
            "ansible_ssh_args has the option -W, which fleet does not support",
        ),
        (
            """echo '{"web": {"hosts": ["w1"], "vars": {"ansible_connection": "winrm"}}}'""",
            "ansible_connection is 'winrm'",
        ),
        ("""echo '{"a": {"children": ["b"]}, "b": {"children": ["a"]}}'""", "group a contains itself"),
        (
            """echo '{"web": ["w1"], "_meta": {"hostvars": {"w1": {"ansible_host": {"__ansible_vault": "x"}}}}}'""",
            "ansible_host is in vault",
        ),
    ],
)
def test_an_executable_that_fails_or_prints_invalid_data_is_refused(script: str, message: str, tmp_path: Path) -> None:
    path = program(tmp_path / "hosts.sh", script)

    with pytest.raises(InventoryError, match=re.escape(message)) as refused:
        load([path]).select()

    assert str(refused.value).startswith(str(path))


def test_a_yaml_file_with_a_stray_x_bit_is_still_yaml(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_text("all: {hosts: {web-01: }}", "utf-8")
    path.chmod(0o755)

    assert names(load([path])) == ["web-01"]


def test_names_with_a_comma_are_an_inventory() -> None:
    inventory = load([Path("web-01,web-[02:03],edge:2222,")])

    assert [(host.name, host.port) for host in inventory.hosts] == [
        ("web-01", None),
        ("web-02", None),
        ("web-03", None),
        ("edge", 2222),
    ]
