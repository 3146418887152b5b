"""A rehearsal: what it costs, beside what fleet ran in its place before: two `nginx -T` and one `nginx -t`.

Three configurations: a small one, one with 8 MB of geo, one of 14,500 servers (7 MB). Every run has a control group of its
own, so that the CPU time of all its processes counts, and of none besides. As root: `python -m tests.bench.rehearsal`.
"""

import os
import pickle
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from fleet.lab.releases.build import make_release
from fleet.onhost.instance import Instance
from fleet.onhost.protocol import Layout, Probe
from fleet.onhost.rehearsal.evidence import Rehearsal
from fleet.onhost.rehearsal.rehearse import rehearse
from fleet.onhost.system.machine import Machine
from tests.support.private_nginx import PrivateNginx, wait_until

GEO_LINES, SERVERS = 330_000, 14_500
CGROUP = Path("/sys/fs/cgroup")
OUT_BLOCK_BYTES = 512


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run took: CPU and wall seconds, MB of memory and kB written to disk.

    The memory of a test is its peak, that of a rehearsal what its nginx processes (PSS) and its copy have at the end, when
    both generations live.
    """

    cpu_s: float
    wall_s: float
    memory_mb: float
    disk_kb: float


@contextmanager
def control_group() -> Iterator[Path]:
    """A control group that counts CPU time, of either version."""
    parent = CGROUP / "cpuacct" if (CGROUP / "cpuacct").is_dir() else CGROUP
    group = parent / f"fleet-bench-{os.getpid()}"
    group.mkdir()
    try:
        yield group
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text(), "an empty control group")
        group.rmdir()


def used_s(group: Path) -> float:
    """The CPU seconds of all processes that are or were in the group."""
    usage = group / "cpuacct.usage"
    if usage.exists():
        return int(usage.read_text()) / 1e9
    return int((group / "cpu.stat").read_text().split()[1]) / 1e6


def apart(act: Callable[[], tuple[float, float]]) -> Cost:
    """What `act` costs in a process of its own; it returns the memory in MB and the kB on disk that rusage does not see."""
    taker, giver = os.pipe()
    with control_group() as group:
        began_s = time.monotonic()
        pid = os.fork()
        if pid == 0:
            os.close(taker)
            (group / "cgroup.procs").write_text("0")
            with os.fdopen(giver, "wb") as sink:
                pickle.dump(act(), sink)
            os._exit(0)
        os.close(giver)
        with os.fdopen(taker, "rb") as source:
            memory_mb, disk_kb = pickle.load(source)
        status, usage = os.wait4(pid, 0)[1:]
        assert status == 0
        wall_s = time.monotonic() - began_s
        disk_kb += usage.ru_oublock * OUT_BLOCK_BYTES / 1024
        return Cost(used_s(group), wall_s, memory_mb, disk_kb)


def before(nginx: PrivateNginx, release: Path) -> tuple[float, float]:
    """What ran before: `-T` by the running binary and by the release, and `-t` by the release once more."""
    for binary, word in ((nginx.binary, "-T"), (release, "-T"), (release, "-t")):
        argv = [str(binary), "-p", f"{nginx.folder}/", "-c", "conf/nginx.conf", word]
        subprocess.run(argv, capture_output=True, check=True)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, 0.0


def rehearsed(nginx: PrivateNginx, release: Path) -> tuple[float, float]:
    """One rehearsal, with a probe."""
    instance = Instance.at(Machine(), Layout(pid_file=str(nginx.pid_file)))
    probes = (Probe(f"http://{nginx.target}/health"),)
    found = rehearse(instance, instance.look().masters[0], str(release), probes, alone=False)
    must_be_whole(found)
    return found.memory_kb / 1024, found.disk_kb


def must_be_whole(found: Rehearsal) -> None:
    """A rehearsal that was not one costs nothing."""
    assert found.why_not is None, found.why_not
    assert not found.alone
    for one in (found.old, found.new):
        assert one is not None
        assert one.fault is None
        assert all(answer.good for answer in one.answers), one.answers


def median(costs: list[Cost]) -> Cost:
    return Cost(
        statistics.median(one.cpu_s for one in costs),
        statistics.median(one.wall_s for one in costs),
        statistics.median(one.memory_mb for one in costs),
        statistics.median(one.disk_kb for one in costs),
    )


def small(folder: Path) -> PrivateNginx:
    return PrivateNginx(folder)


def geo(folder: Path) -> PrivateNginx:
    nginx = PrivateNginx(folder, more='location = /geo { return 200 "$zone\\n"; }')
    numbers = range(GEO_LINES)
    lines = [f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}/32 zone-{n % 97};" for n in numbers]
    in_http(nginx, "\n".join(["geo $zone {", "default none;", *lines, "}"]))
    return nginx


def servers(folder: Path) -> PrivateNginx:
    nginx = PrivateNginx(folder)
    text = """server {{ listen 127.0.0.1:{port}; server_name www-{n}.example.net example-{n}.net; root html;
  add_header Strict-Transport-Security "max-age=31536000"; client_max_body_size 20m; gzip on; index index.html index.htm;
  location / {{ try_files $uri $uri/ =404; }}
  location /static/ {{ expires 7d; }}
  location /api/ {{ proxy_pass http://127.0.0.1:9; proxy_set_header Host $host; proxy_read_timeout 30s; }}
  location ~ /\\.git {{ deny all; }} }}"""
    hashes = "server_names_hash_max_size 262144; server_names_hash_bucket_size 128;"
    in_http(nginx, "\n".join([hashes, *(text.format(port=nginx.port, n=n) for n in range(SERVERS))]))
    return nginx


def in_http(nginx: PrivateNginx, text: str) -> None:
    """The configuration has this text, too, at the end of its `http` block."""
    path = nginx.folder / "conf" / "nginx.conf"
    config = path.read_text().rstrip()
    path.write_text(f"{config.removesuffix('}')}\n{text}\n}}\n")


def row(name: str, what: str, cost: Cost, first: Cost) -> str:
    beside = f"{cost.cpu_s / first.cpu_s:6.2f} x {cost.cpu_s - first.cpu_s:+7.2f} s"
    numbers = f"{cost.cpu_s:>8.2f}{cost.wall_s:>8.2f}{cost.memory_mb:>11.0f}{cost.disk_kb:>9.0f}"
    return f"{name:<16}{what:<12}{numbers}  {beside}"


def compare(name: str, make: Callable[[Path], PrivateNginx], release: Path, runs: int) -> None:
    """One line for what ran before, one for the rehearsal: medians of so many runs of each, one after the other."""
    with TemporaryDirectory(prefix="fleet-bench-") as folder:
        nginx = make(Path(folder))
        try:
            nginx.start_well()
            pairs = [
                (apart(lambda: before(nginx, release)), apart(lambda: rehearsed(nginx, release))) for _ in range(runs)
            ]
        finally:
            nginx.end()
    first = median([pair[0] for pair in pairs])
    print(row(name, "before", first, first), flush=True)
    print(row(name, "rehearsal", median([pair[1] for pair in pairs]), first), flush=True)


def main() -> None:
    print(f"{'configuration':<16}{'':<12}{'CPU s':>8}{'wall s':>8}{'memory MB':>11}{'disk kB':>9}  CPU beside before")
    with TemporaryDirectory(prefix="fleet-bench-") as folder:
        release = make_release("new", Path(folder) / "nginx")
        compare("small", small, release, 9)
        compare("8 MB geo", geo, release, 3)
        compare("14,500 servers", servers, release, 1)


if __name__ == "__main__":
    main()
