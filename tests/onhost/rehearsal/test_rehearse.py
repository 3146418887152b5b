import socket

import pytest

from fleet.onhost.rehearsal.rehearse import learnt
from fleet.onhost.rehearsal.wanted import Wanted

EMERG = "2026/12/01 02:27:24 [emerg] 10#10: "


@pytest.mark.parametrize(
    ("line", "then"),
    [
        ('open() "/var/log/big.log" failed (28: No space left on device)', Wanted(empty=("/var/log/big.log",))),
        ('mkdir() "/var/cache/a" failed (30: Read-only file system)', Wanted(writable=("/var/cache",))),
        ("bind() to unix:/run/a.sock failed (30: Read-only file system)", Wanted(writable=("/run",))),
        ("bind() to 127.0.0.53:53 failed (98: Address already in use)", Wanted(relay=False)),
        ("bind() to 0.0.0.0:80 failed (98: Address already in use)", Wanted()),
        ('unknown directive "nonsense" in /etc/nginx/nginx.conf:2', Wanted()),
    ],
)
def test_what_the_copy_lacks_is_learnt_from_the_log(line: str, then: Wanted) -> None:
    assert learnt(Wanted(), EMERG + line) == then


def test_nothing_is_learnt_twice() -> None:
    line = EMERG + 'open() "/var/log/big.log" failed (28: No space left on device)'
    once = learnt(Wanted(), line)

    assert learnt(once, line) == once


def test_a_name_that_the_host_knows_comes_with_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def resolve(name: str, *_: object, **__: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        asked.append(name)
        if name == "gone.example.net":
            raise socket.gaierror
        return [(2, 1, 6, "", ("192.0.2.7", 0)), (2, 1, 6, "", ("192.0.2.7", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    lines = f'{EMERG}host not found in upstream "app.example.net:8080" in x\n{EMERG}host not found in "gone.example.net" in x'

    assert learnt(Wanted(), lines) == Wanted(hosts=(("app.example.net", "192.0.2.7"),))
    assert sorted(asked) == ["app.example.net", "gone.example.net"]
