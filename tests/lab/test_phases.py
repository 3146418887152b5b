"""The recorded phases of the unit tests match a real nginx."""

from tests.lab.record_phases import record_all
from tests.support.lab.puppet import RECORDED
from tests.support.onhost.phase_fixtures import comparable, load, names


def test_the_fixtures_agree_with_real_nginx() -> None:
    from fleet.onhost.wire import encode

    seen = record_all()

    assert sorted(seen) == names() == sorted(RECORDED)
    for name, data in seen.items():
        recorded, phase = load(name)
        assert data == comparable(encode(recorded), {}), name
        assert phase == RECORDED[name][1]
