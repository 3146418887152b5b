"""The model nginx against the real one: drawn histories of signals, played on lab hosts, phase by phase."""

import itertools
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fleet.lab.lab import Lab
from fleet.lab.releases.build import DEFAULT_BASE, make_release
from fleet.onhost.procedure import classify
from tests.support.lab.carried import carry, run_there
from tests.support.onhost.model import NEW_SHA, OLD_SHA, Model

SEED = 20261123
HISTORIES = 120
HOSTS = 3
ACTS = ["put_new", "usr2_old", "winch_old", "quit_old", "hup_old", "quit_new", "kill_new", "hup_new"] * 3 + [
    "put_old",
    "winch_new",
    "kill_old",
] * 2

Scene = dict[str, object]


def act_on(model: Model, act: str) -> Model:
    if act.startswith("put_"):
        return model.put(NEW_SHA if act == "put_new" else OLD_SHA)
    acted: Model = getattr(model, act)()
    return acted


def sketch(model: Model) -> list[object]:
    """What `puppet.sketch` sees of the real one."""
    seen = model.observe()
    counts = [len(master.accepting) for master in seen.masters]
    phases = [classify(seen, sha256).value for sha256 in (OLD_SHA, NEW_SHA)]
    names: list[int | None] = [len(counts) - 1, 0 if model.oldbin and len(counts) == 2 else None]
    return [*phases, counts, len(seen.orphans), names if counts else None]


def draw(chance: random.Random) -> list[Scene]:
    """A history: acts that begin as an upgrade does, then anything, and what the model says of each."""
    start = ["put_new", "usr2_old", "winch_old"][: chance.choice((0, 1, 2, 2, 3, 3))]
    acts = start + chance.choices(ACTS, k=chance.randint(2, 6))
    model = Model()
    scenes: list[Scene] = []
    for act in acts:
        model = act_on(model, act)
        scenes.append({"act": act, "expected": sketch(model)})
        if model.old is None:
            break
    return scenes


def unique(drawn: Iterator[list[Scene]]) -> Iterator[list[Scene]]:
    """Each history once."""
    seen = set()
    for history in drawn:
        acts = tuple(str(scene["act"]) for scene in history)
        if acts not in seen:
            seen.add(acts)
            yield history


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab.up(name="model", count=HOSTS)
    try:
        files = {"old": DEFAULT_BASE, "new": make_release("new", tmp_path_factory.mktemp("model") / "new")}
        for host in lab.hosts:
            carry(host, {name: Path(path).read_bytes() for name, path in files.items()})
        yield lab
    finally:
        lab.down()


def test_real_nginx_goes_where_the_model_goes(hosts: Lab) -> None:
    chance = random.Random(SEED)
    drawn = (draw(chance) for _ in itertools.count())
    histories = list(itertools.islice(unique(drawn), HISTORIES))
    shares = [histories[n::HOSTS] for n in range(HOSTS)]

    with ThreadPoolExecutor(HOSTS) as pool:
        jobs = [
            pool.submit(run_there, host, "tests.support.lab.puppet", {"do": "play", "histories": share})
            for host, share in zip(hosts.hosts, shares, strict=True)
        ]
        answers = [answer for job in jobs for answer in job.result()]

    assert len(answers) == HISTORIES
    wrong = [
        (answer, [scene["act"] for scene in history])
        for answer, history in zip(answers, [one for share in shares for one in share], strict=True)
        if answer is not None
    ]
    assert not wrong, wrong[:5]
