"""What `--limit` selects, and how a pattern that selects nothing is refused."""

from pathlib import Path

import pytest

from fleet.errors import InventoryError
from fleet.inventory.patterns import select_names

HOSTS = ("web-01", "web-02", "web-03", "edge", "2001:db8::7", "db-01", "lone")
GROUPS = {
    "all": HOSTS,
    "ungrouped": ("lone",),
    "web": ("web-01", "web-02", "web-03", "edge"),
    "eu": ("web-02", "edge", "2001:db8::7"),
    "databases": ("db-01",),
    "empty": (),
}


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        # as Ansible does
        (["all"], HOSTS),
        (["*"], HOSTS),
        ([], HOSTS),
        (["web"], ("web-01", "web-02", "web-03", "edge")),
        (["web-02"], ("web-02",)),
        (["web-*"], ("web-01", "web-02", "web-03")),
        (["web*"], ("web-01", "web-02", "web-03", "edge")),
        (["web-0?"], ("web-01", "web-02", "web-03")),
        (["~web-0[12]"], ("web-01", "web-02")),
        (["~(web-0|db).*"], ("web-01", "web-02", "web-03", "db-01")),
        (["~web-0[0-9]{1,2}"], ("web-01", "web-02", "web-03")),
        (["web:databases"], ("web-01", "web-02", "web-03", "edge", "db-01")),
        (["databases,web-01"], ("web-01", "db-01")),
        (["web-01", "lone"], ("web-01", "lone")),
        (["web:&eu"], ("web-02", "edge")),
        (["&eu:web"], ("web-02", "edge")),
        (["web:!eu"], ("web-01", "web-03")),
        (["!eu:web"], ("web-01", "web-03")),
        (["web:&eu:!edge"], ("web-02",)),
        (["!web"], ("2001:db8::7", "db-01", "lone")),
        (["&eu"], ("web-02", "edge", "2001:db8::7")),
        (["!web-0*", "!lone"], ("edge", "2001:db8::7", "db-01")),
        (["ungrouped"], ("lone",)),
        (["web[0]"], ("web-01",)),
        (["web[-1]"], ("edge",)),
        (["web[0:1]"], ("web-01", "web-02")),
        (["web[2:]"], ("web-03", "edge")),
        (["web[0]:web[3]"], ("web-01", "edge")),
        (["2001:db8::7"], ("2001:db8::7",)),
        (["web-01,2001:db8::7"], ("web-01", "2001:db8::7")),
        # where Ansible does otherwise: it would find nothing (or every host, for `al*`)
        (["web-0[12]"], ("web-01", "web-02")),
        (["web-[01:03]"], ("web-01", "web-02", "web-03")),
        (["[a-e]*"], ("web-02", "edge", "2001:db8::7", "db-01")),
    ],
)
def test_a_pattern_selects_in_the_order_of_the_inventory(patterns: list[str], expected: tuple[str, ...]) -> None:
    assert select_names(patterns, GROUPS) == expected


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("web-04", r"--limit web-04: no such host or group \(did you mean web-0\d\?\)"),
        ("web:!web-04", "--limit web-04: no such host or group"),
        ("web:&asia", "--limit asia: no such host or group"),
        ("zzz*", r"--limit zzz\*: no such host or group"),
        ("al*", r"--limit al\*: no such host or group"),
        ("ungroupe?", r"--limit ungroupe\?: no such host or group"),
        ("web-[01:04]", "--limit web-04: no such host or group"),
        ("web-[3:1]", "is not a valid range"),
        ("zzz[0]", "--limit zzz: no such host or group"),
        ("web[9]", "web has only 4 hosts, counted from 0"),
        ("web[-5]", "web has only 4 hosts, counted from 0"),
        ("empty", "--limit empty selects no host"),
        ("web:!all", "selects no host"),
        ("~(", "not a valid regular expression"),
        ("!", "is not a pattern"),
        ("!!web", "is not a pattern"),
        ("!&web", "is not a pattern"),
        ("  ", "--limit is empty"),
        ("@/nope/hosts", "--limit @/nope/hosts: the file can't be read: No such file"),
    ],
)
def test_a_pattern_that_selects_nothing_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(InventoryError, match=message):
        select_names([pattern], GROUPS)


def test_the_refusal_of_a_pattern_lists_groups_and_hosts() -> None:
    with pytest.raises(InventoryError) as refused:
        select_names(["databasse"], GROUPS)

    assert "did you mean databases?" in refused.value.message
    assert "Groups: all, ungrouped, web, eu, databases, empty" in refused.value.remedy


def test_a_file_of_patterns_has_one_per_line(tmp_path: Path) -> None:
    listed = tmp_path / "failed"
    listed.write_text("# failed last night\nweb-01\n\n  databases  \n!edge\n", "utf-8")

    assert select_names([f"@{listed}"], GROUPS) == ("web-01", "db-01")


@pytest.mark.parametrize("text", ["", "# nothing\n", "@other\n"])
def test_a_file_without_names_is_refused(text: str, tmp_path: Path) -> None:
    listed = tmp_path / "failed"
    listed.write_text(text, "utf-8")

    with pytest.raises(InventoryError, match=f"--limit @{listed}"):
        select_names([f"@{listed}"], GROUPS)
