"""The bench's arithmetic, and the page that is made from its results."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench.peers.chart import chart
from tests.bench.peers.contenders import Shell
from tests.bench.peers.figures import Figures, median, ratio
from tests.bench.peers.jobs import Job, Release, next_release, script
from tests.bench.peers.page import page
from tests.bench.peers.results import Probe, Results, Row, read, together
from tests.bench.peers.rounds import in_turn

ONE = Figures(wall_s=2.0, controller_cpu_s=0.5, host_cpu_s=1.0, peak_mb=40.0, wire_bytes=60_000_000)


def row(name: str, *walls_s: float, job: Job = Job.COLD) -> Row:
    return Row(10, 0, job, name, tuple(replace(ONE, wall_s=wall_s) for wall_s in walls_s))


def test_the_median_of_each_figure_is_its_own() -> None:
    runs = [replace(ONE, wall_s=1.0, peak_mb=9.0), replace(ONE, wall_s=5.0, peak_mb=3.0), replace(ONE, wall_s=2.0)]

    assert (median(runs).wall_s, median(runs).peak_mb) == (2.0, 9.0)


def test_a_time_that_some_runs_lack_is_the_median_of_the_others() -> None:
    assert median([ONE, replace(ONE, first_s=3.0), replace(ONE, first_s=4.0)]).first_s == 3.5
    assert median([ONE]).first_s is None


def test_a_ratio_is_of_two_runs_of_one_round() -> None:
    """The second round was slow for both; the ratio of the medians would be 2, and hide it."""
    ours, theirs = row("fleet", 2.0, 20.0, 3.0).runs, row("xargs", 2.0, 20.0, 1.0).runs

    assert ratio(ours, theirs, "wall_s") == 1.0


@pytest.mark.parametrize("theirs", [(), (replace(ONE, wall_s=0.0),)])
def test_there_is_no_ratio_without_something_to_divide_by(theirs: tuple[Figures, ...]) -> None:
    assert ratio((ONE,), theirs, "wall_s") is None


def test_each_round_begins_with_another_contender() -> None:
    first, second = Shell("first", ""), Shell("second", "")

    assert [in_turn([first, second], turn)[0].name for turn in range(3)] == ["first", "second", "first"]


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    found = Results({"date": "today"}, (row("fleet", 1.0, 2.0),), (Probe("start", "other", "ms", (2.0,), (1.0,)),))
    found.write(tmp_path / "results")

    assert read(tmp_path / "results") == found


def test_a_later_row_takes_the_place_of_an_earlier_one() -> None:
    old, new = row("fleet", 9.0), row("fleet", 1.0)

    assert together([Results({}, (old, row("xargs", 2.0))), Results({}, (new,))]).rows == (new, row("xargs", 2.0))


def test_a_row_of_the_page_has_cost_a_host_and_the_ratio_to_pinned_ssh() -> None:
    text = page(Results({}, (row("fleet", 4.0), row("xargs ssh, pinned", 2.0))))

    assert "| fleet | 4.0 | 2.00 | 50 | 1.00 | 100 | 1.00 | 40 | 6000 | 0 |" in text


def test_the_page_adds_up_the_hosts_that_failed() -> None:
    """One bad run of three has no place in a median."""
    runs = (ONE, replace(ONE, failed=4), ONE)

    assert "| 4 |\n" in page(Results({}, (Row(10, 0, Job.COLD, "fleet", runs),)))


def test_the_page_says_when_held_hosts_were_back() -> None:
    runs = (replace(ONE, first_s=0.4, last_s=1.9),)

    assert "| 0.4 | 1.9 |" in page(Results({}, (Row(10, 0, Job.HELD, "fleet", runs),)))


def test_the_chart_shows_the_most_hosts_of_each_job() -> None:
    few, many = row("fleet", 1.0), Row(50, 0, Job.COLD, "fleet", (ONE,))
    drawn = ElementTree.fromstring(chart((few, many, Row(200, 20, Job.COLD, "fleet", (ONE,)))))
    texts = [each.text for each in drawn.iter("{http://www.w3.org/2000/svg}text")]

    assert f"{Job.COLD.value}, 50 hosts" in texts
    assert "10 + 20" in texts


def test_no_two_releases_of_a_run_are_the_same(tmp_path: Path) -> None:
    made = [next_release(tmp_path, number) for number in range(9)]

    assert len({one.path.stat().st_size for one in made}) == 9
    assert all(one.version != other.version for one, other in pairwise(made))


def test_the_script_takes_the_release_from_where_it_lies() -> None:
    release = Release(Path("nginx"), "1.22.9")

    assert script(Job.COLD, release, "-").startswith("source=- version=1.22.9 hold=0\n")
    assert script(Job.COMMITTED, release, "-").startswith("source=/usr/local/nginx/sbin/nginx.old ")
    assert script(Job.STATUS, release, "-") == "true"
