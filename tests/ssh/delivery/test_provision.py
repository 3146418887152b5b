"""The bundle is uploaded once, whole or not at all, and a host that can't store it says why."""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.events import EventType
from fleet.host import Host
from fleet.onhost.protocol import Ask, Outcome
from fleet.ssh.delivery.bundle import GENERIC, build
from fleet.ssh.delivery.upload import WAYS
from fleet.ssh.remote import command
from fleet.ssh.transport import connection
from fleet.ssh.transport.watchdog import Watchdog
from fleet.ssh.visit import visit
from fleet.task import Connecting, HostOutcome
from tests.support.ssh.server import Proxy, Sshd, sshd
from tests.support.ssh.stubs import FINE, QUICK, TARGET, Heard, a_task, of, stub


def bundle_files(host: Host) -> list[Path]:
    return list(Path(host.layout.state_dir).glob("bundles/*/fleet.pyz*"))


def kept_in(host: Host, folder: Path) -> Host:
    return replace(host, layout=host.layout._replace(state_dir=str(folder)))


def linked(host: Host, folder: Path) -> Host:
    """The host with a state folder that is a link, from `app` to `real`."""
    (folder / "app").mkdir()
    (folder / "real").mkdir(mode=0o700)
    (folder / "app" / "fleet").symlink_to(folder / "real")
    return kept_in(host, folder / "app" / "fleet")


# The bundle


def test_the_bundle_is_uploaded_once_and_then_found(fresh: Host, tmp_path: Path) -> None:
    available = stub(tmp_path, FINE)

    visit(a_task(fresh), Heard(), available)
    (first,) = bundle_files(fresh)
    seen = first.stat()
    visit(a_task(fresh), Heard(), available)

    (second,) = bundle_files(fresh)
    assert second.parent.name in {bundle.key for bundle in available.values()}
    assert (second.stat().st_ino, second.stat().st_mtime_ns) == (seen.st_ino, seen.st_mtime_ns)
    assert (second.stat().st_mode & 0o777, second.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_state_folder_that_others_may_write_to_is_refused(fresh: Host, tmp_path: Path) -> None:
    Path(fresh.layout.state_dir).mkdir()
    Path(fresh.layout.state_dir).chmod(0o777)

    outcome = visit(a_task(fresh), Heard(), stub(tmp_path, FINE))

    assert of(outcome) == (Outcome.REFUSED, "bundle_failed")
    assert fresh.layout.state_dir in outcome.message
    assert bundle_files(fresh) == []


OTHERS = pytest.mark.parametrize(
    ("owner", "group", "mode"),
    [(65534, 65534, 0o755), (0, 50, 0o775), (0, 0, 0o777)],
    ids=["somebody's", "a group's", "everybody's"],
)


def refused(outcome: HostOutcome, place: Path) -> bool:
    """Whether the visit was refused because of this path, with a remedy."""
    return (
        of(outcome) == (Outcome.REFUSED, "bundle_failed")
        and f"Users other than root can write to {place}, or replace it" in outcome.message
        and "(chown root, chmod go-w)" in outcome.remedy
    )


def open_to(path: Path, owner: int, group: int, mode: int) -> None:
    os.chown(path, owner, group)
    path.chmod(mode)


@OTHERS
def test_a_state_folder_that_others_may_replace_is_refused(
    fresh: Host, tmp_path: Path, owner: int, group: int, mode: int
) -> None:
    """A user who can write to the folder above could replace it, and run code as root at the next visit."""
    (tmp_path / "app").mkdir()
    open_to(tmp_path / "app", owner, group, mode)
    host = kept_in(fresh, tmp_path / "app" / "fleet")

    assert refused(visit(a_task(host), Heard(), stub(tmp_path, FINE)), tmp_path / "app")
    assert list((tmp_path / "app").iterdir()) == []


@pytest.mark.parametrize(
    "place", ["app", "app/fleet", "app/fleet/releases", "app/fleet/bundles/*", "app/fleet/bundles/*/lib"]
)
def test_a_folder_that_was_opened_to_others_after_the_first_visit_is_refused(
    fresh: Host, tmp_path: Path, place: str
) -> None:
    host = kept_in(fresh, tmp_path / "app" / "fleet")
    available = stub(tmp_path, FINE)
    visit(a_task(host), Heard(), available)
    (tmp_path / "app" / "fleet" / "releases").mkdir(mode=0o700)
    (opened,) = tmp_path.glob(place)
    opened.chmod(0o777)

    assert refused(visit(a_task(host), Heard(), available), opened)


def test_a_link_to_the_state_folder_counts_as_the_folder(fresh: Host, tmp_path: Path) -> None:
    """The link is root's, in a folder of root's alone, as on a host whose /var is too small."""
    host = linked(fresh, tmp_path)
    available = stub(tmp_path, FINE)

    outcomes = [visit(a_task(host), Heard(), available) for _ in range(2)]

    assert [of(outcome) for outcome in outcomes] == [(Outcome.DONE, None)] * 2
    assert len(bundle_files(host)) == 1


@pytest.mark.parametrize("further", ["", "below"])
def test_a_link_that_other_users_may_replace_is_refused(fresh: Host, tmp_path: Path, further: str) -> None:
    """Its target may be root's alone; the folder that holds the link counts, too."""
    host = linked(fresh, tmp_path)
    open_to(tmp_path / "app", 65534, 65534, 0o755)
    host = kept_in(host, Path(host.layout.state_dir, further))

    assert refused(visit(a_task(host), Heard(), stub(tmp_path, FINE)), tmp_path / "app")
    assert list((tmp_path / "real").iterdir()) == []


SWAP = """
mkdir -p {app}/evil/bundles/{key}/lib/fleet/onhost {app}/evil/bundles/{key}/lib/psutil-wheel/psutil
cd {app}/evil/bundles/{key}
ln -s {real}/bundles/{key}/fleet.pyz fleet.pyz
: > lib/fleet/__init__.py; : > lib/fleet/onhost/__init__.py; : > lib/psutil-wheel/psutil/__init__.py
echo 'open("{ran}", "w").close()' > lib/fleet/onhost/__main__.py
rm {app}/fleet; ln -s {app}/evil {app}/fleet
"""


def test_a_link_that_was_replaced_after_the_first_visit_runs_no_foreign_code(fresh: Host, tmp_path: Path) -> None:
    """The bundle is still root's own file, through another link; the files beside it are not."""
    host = linked(fresh, tmp_path)
    available = stub(tmp_path, FINE)
    visit(a_task(host), Heard(), available)
    (bundle,) = available.values()
    ran = tmp_path / "ran"
    app, real = tmp_path / "app", tmp_path / "real"
    subprocess.run(["sh", "-ec", SWAP.format(app=app, real=real, key=bundle.key, ran=ran)], check=True)
    subprocess.run(["chown", "-Rh", "65534:65534", app], check=True)

    assert refused(visit(a_task(host), Heard(), available), app)
    assert not ran.exists()


def test_links_that_lead_nowhere_but_to_each_other_are_refused(fresh: Host, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    outcome = visit(a_task(kept_in(fresh, tmp_path / "a" / "fleet")), Heard(), stub(tmp_path, FINE))

    assert of(outcome) == (Outcome.REFUSED, "bundle_failed")
    assert f"{tmp_path}/a/fleet/" in outcome.message
    assert "Too many levels of symbolic links" in outcome.message
    assert "Traceback" not in outcome.message


def test_the_leftovers_of_a_killed_receiver_are_removed_by_the_next_upload(fresh: Host, tmp_path: Path) -> None:
    bundles = Path(fresh.layout.state_dir, "bundles")
    given_up, under_way = bundles / "a" / "fleet.pyz.part.7", bundles / "a" / "fleet.pyz.part.8"
    given_up.parent.mkdir(parents=True)
    for path in (given_up, under_way):
        path.write_bytes(b"half")
    os.utime(given_up, (1, 1))

    outcome = visit(a_task(fresh), Heard(), stub(tmp_path, FINE))

    assert of(outcome) == (Outcome.DONE, None)
    assert [path.exists() for path in (given_up, under_way)] == [False, True]


def test_a_state_folder_that_cannot_be_made_is_refused(fresh: Host, tmp_path: Path) -> None:
    Path(fresh.layout.state_dir).write_text("a file\n")

    assert of(visit(a_task(fresh), Heard(), stub(tmp_path, FINE))) == (Outcome.REFUSED, "bundle_failed")


def test_a_bundle_that_arrives_damaged_is_not_kept(fresh: Host, tmp_path: Path) -> None:
    lying = {tag: replace(bundle, sha256="0" * 64) for tag, bundle in stub(tmp_path, FINE).items()}

    outcome = visit(a_task(fresh), Heard(), lying)

    assert of(outcome) == (Outcome.REFUSED, "bundle_failed")
    assert "damaged" in outcome.message
    assert bundle_files(fresh) == []


def test_a_link_that_freezes_while_the_bundle_is_sent_changed_nothing(
    server: Sshd, fresh: Host, tmp_path: Path
) -> None:
    with Proxy(server.port, freeze_after_bytes=60_000) as proxy:
        server.know("[127.0.0.1]:* {key}")
        task = a_task(proxy.before(fresh), deadlines=replace(QUICK, transfer_idle_s=2))
        outcome = visit(task, Heard(), {GENERIC: build(GENERIC, tmp_path, {"padding": os.urandom(4 << 20)})})

    assert of(outcome) == (Outcome.UNREACHABLE, "transfer_stalled")
    assert [path for path in bundle_files(fresh) if path.name == "fleet.pyz"] == []


def test_a_full_disk_is_reported_in_the_host_s_own_words(fresh: Host, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "fleet-test", small], check=True)
    host = replace(fresh, layout=fresh.layout._replace(state_dir=str(small)))

    outcome = visit(a_task(host), Heard(), {GENERIC: build(GENERIC, tmp_path, {"padding": os.urandom(4 << 20)})})

    left = bundle_files(host)
    subprocess.run(["umount", small], check=True)
    assert of(outcome) == (Outcome.REFUSED, "bundle_failed")
    assert "No space left" in outcome.message
    assert left == []


@pytest.mark.parametrize("folder", ["with space", "it's", 'a "b" $HOME `id` ; &'])
def test_an_odd_state_folder_reaches_no_shell(fresh: Host, tmp_path: Path, folder: str) -> None:
    host = replace(fresh, layout=fresh.layout._replace(state_dir=str(tmp_path / folder)))

    assert of(visit(a_task(host), Heard(), stub(tmp_path, FINE))) == (Outcome.DONE, None)
    assert len(bundle_files(host)) == 1


def test_a_state_folder_that_csh_can_not_quote_is_refused(fresh: Host, tmp_path: Path) -> None:
    host = replace(fresh, layout=fresh.layout._replace(state_dir="/var/lib/fleet!"))

    assert of(visit(a_task(host), Heard(), stub(tmp_path, FINE))) == (Outcome.REFUSED, "path_refused")


# A host that is slow

# What the bundle and what the release are sent to begins only when the file is there; what runs the bundle, at once.
SLEEPY = """#!/bin/sh
case "$SSH_ORIGINAL_COMMAND" in
*fleet.pyz*) ;;
*eval*|*umask*) for i in $(seq 600); do [ -e {go} ] && break; sleep 0.05; done; rm {go} || exit 1 ;;
esac
exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"
"""


def test_a_slow_login_does_not_count_as_a_stalled_upload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The login begins only after the upload's deadline was reset three times."""
    monkeypatch.setattr(command, "PULSE_S", 0.1)

    class Watching(Watchdog):
        times = 0

        def progressed(self) -> None:
            super().progressed()
            self.times += 1
            if self.times == 3:
                (tmp_path / "go").touch()

    monkeypatch.setattr(connection, "Watchdog", Watching)
    (tmp_path / "login.sh").write_text(SLEEPY.format(go=tmp_path / "go"))
    (tmp_path / "login.sh").chmod(0o755)
    release = tmp_path / "nginx"
    release.write_text("the bytes")
    with sshd(tmp_path, f"ForceCommand {tmp_path}/login.sh") as sleepy:
        task = a_task(sleepy.host, Ask.STAGE, release=release)
        task = replace(task, connecting=replace(task.connecting, transfer="exec"))

        outcome = visit(task, Heard(), stub(tmp_path, STAGE))

    assert of(outcome) == (Outcome.DONE, None)


# The release

STAGE = """
import gzip, os
folder = os.path.join(request.layout.state_dir, "releases", request.goal.target)
part = os.path.join(folder, "nginx.part.gz")
say(ReplyType.STEP_STARTED, step=Step.STAGE)
if not os.path.exists(part):
    os.makedirs(folder, exist_ok=True)
    say(ReplyType.FINDING, reason="release_missing", severity=Severity.REFUSAL, message="m", remedy="r")
    say(ReplyType.STEP_ENDED, step=Step.STAGE, outcome=Outcome.REFUSED, reason="release_missing")
    end(Outcome.REFUSED, reason="release_missing")
    take_release(part)
    say(ReplyType.STEP_STARTED, step=Step.STAGE)
say(ReplyType.STEP_ENDED, step=Step.STAGE, outcome=Outcome.DONE)
end(message=gzip.open(part, 'rt').read())
"""


def test_a_missing_release_is_uploaded_and_the_request_is_sent_again(fresh: Host, tmp_path: Path) -> None:
    release = tmp_path / "nginx"
    release.write_text("the bytes")
    heard = Heard()

    outcome = visit(a_task(fresh, Ask.STAGE, release=release), heard, stub(tmp_path, STAGE))

    assert of(outcome) == (Outcome.DONE, None)
    assert outcome.message == "the bytes"
    assert outcome.findings == ()
    assert heard.types == [
        EventType.VISIT_STARTED,
        EventType.NOTE,
        EventType.STEP_STARTED,
        EventType.STEP_ENDED,
        EventType.VISIT_ENDED,
    ]
    sent_bytes = next(Path(fresh.layout.state_dir).glob("releases/*/nginx.part.gz")).stat().st_size
    assert heard.events[1].data == {"transfer": "exec", "bytes": sent_bytes, "unpacked_bytes": 9}
    assert heard.events[1].message == "Uploaded the release by exec (0.0 MB, unpacked 0.0 MB)."
    assert heard.events[1].took_s is not None


def test_a_missing_release_without_a_local_file_is_refused(fresh: Host, tmp_path: Path) -> None:
    outcome = visit(a_task(fresh, Ask.STAGE), Heard(), stub(tmp_path, STAGE))

    assert of(outcome) == (Outcome.REFUSED, "release_missing")
    assert [finding.reason for finding in outcome.findings] == ["release_missing"]


def test_a_release_that_cannot_be_written_is_a_refusal_and_no_lost_link(fresh: Host, tmp_path: Path) -> None:
    release = tmp_path / "nginx"
    release.write_text("the bytes")
    without_folder = STAGE.replace("os.makedirs(folder, exist_ok=True)", "pass")

    outcome = visit(a_task(fresh, Ask.STAGE, release=release), Heard(), stub(tmp_path, without_folder))

    assert of(outcome) == (Outcome.REFUSED, "upload_failed")
    assert str(TARGET) in outcome.message


def test_every_upload_way_works_with_one_session_at_a_time(tmp_path: Path) -> None:
    """Hardened hosts have MaxSessions 1 or 2, which sshd counts until a command has ended."""
    (tmp_path / "nginx").write_text("the bytes")
    available = stub(tmp_path, STAGE)

    def brought(way: str) -> HostOutcome:
        layout = stingy.host.layout._replace(state_dir=str(tmp_path / way))
        task = a_task(replace(stingy.host, layout=layout), Ask.STAGE, release=tmp_path / "nginx")
        return visit(replace(task, connecting=Connecting(transfer=way)), Heard(), available)

    with sshd(tmp_path, "MaxSessions 1") as stingy, ThreadPoolExecutor() as threads:
        outcomes = list(threads.map(brought, (*WAYS, "exec")))

    assert [(of(one), one.message) for one in outcomes] == [((Outcome.DONE, None), "the bytes")] * 3
