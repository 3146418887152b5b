"""Brings a host what it needs before a request: the step script's bundle, and the release that it is to run.

Both are named by their hash. Nothing here changes what the host runs, so that a failure counts as one before the request.
"""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from fleet.onhost.protocol import Outcome, Reply, Upload
from fleet.onhost.text import safe
from fleet.ssh.delivery.bundle import GENERIC, Bundle, BundleStore, fitting, receive_text
from fleet.ssh.delivery.compress import CompressedRelease, compressed_release
from fleet.ssh.delivery.psutil_wheels import WheelUnavailable
from fleet.ssh.delivery.rate_limit import Rate
from fleet.ssh.delivery.turns import TURNS
from fleet.ssh.delivery.upload import WAYS, Source, transferring, upload, upload_failed
from fleet.ssh.link_errors import HostRefused
from fleet.ssh.remote.root_command import START_S, RootCommand
from fleet.ssh.remote.start_line import Platform
from fleet.ssh.transport.connection import Link

UNSAFE, FAILED = "fleet-unsafe ", "fleet-failed "

SendRelease = Callable[[Upload, Source], Reply]
"""Sends the bytes of a release; gives what the host says to them."""

log = logging.getLogger("fleet.ssh")


class NoteSink(Protocol):
    """Tells the operator what was uploaded, or with a reason word why something could not be."""

    def __call__(self, reason: str | None, message: str, **values: Any) -> None: ...


class Provisioner:
    """Uploads over one link. `no_psutil`: why the host must have a psutil of its own; empty if it need not."""

    def __init__(self, link: Link, bundles: Mapping[str, Bundle], notify: NoteSink, transfer: str, rate: Rate) -> None:
        self.no_psutil = ""
        self._link = link
        self._state_dir = link.host.layout.state_dir
        self._bundles = bundles
        self._notify = notify
        self._transfer = transfer
        self._rate = rate

    @property
    def can_fetch(self) -> bool:
        """Whether psutil can be fetched for more platforms."""
        return isinstance(self._bundles, BundleStore)

    def keys(self, without: str = "") -> tuple[str, ...]:
        """The keys of the bundles that the host may run, the best first, except the one with the tag `without`."""
        ordered = sorted(self._bundles.values(), key=lambda each: each.tag == GENERIC)
        return tuple(bundle.key for bundle in ordered if bundle.tag != without)

    def bundle_for(self, platform: Platform) -> Bundle:
        """The bundle with psutil for that platform, fetched if needed; else the generic one for hosts with their own."""
        if isinstance(self._bundles, BundleStore):
            try:
                return self._bundles.fetch(platform.tag)
            except WheelUnavailable as error:
                self.no_psutil = f"fleet has no psutil for {platform.tag}: {error}."
                self._notify("psutil_not_fetched", f"{self.no_psutil} The host's own psutil is used.")
        return fitting(platform.tag, self._bundles)

    def upload_bundle(self, bundle: Bundle, proceed: Callable[[], None]) -> None:
        """Stores the bundle on the host, which checks its hash. `proceed` is called at least once a second; what it raises
        ends the upload. Raises `HostRefused` with the host's own reason, and `LinkError`.
        """
        with transferring(self._link, "the step script") as watch:
            command = RootCommand.run_text(self._link)
            source = Source(bundle.data, self._link, watch, self._rate, proceed)

            def waiting() -> None:
                proceed()
                source.progressed()  # the upload's deadline does not run while the login begins

            answer = self._sent(bundle, command, source, proceed) if command.begin(waiting) else ""
        if not answer:
            raise command.ended_early()
        command.close()
        if answer != "fleet-stored":
            raise _bundle_refused(answer, command.stderr)
        log.info("%s: the bundle for %s was stored", self._link.host.name, bundle.tag)

    def _sent(self, bundle: Bundle, command: RootCommand, source: Source, proceed: Callable[[], None]) -> str:
        """The host's answer to the bundle, `fleet-begun` if it gave none."""
        idle_s = self._link.deadlines.transfer_idle_s
        source.progressed()
        # If the host closes its stdin early, its answer says why.
        with suppress(OSError):
            command.send(receive_text(bundle, self._state_dir))
            source.write_to(command, idle_s)

        def patience_s() -> float:
            proceed()
            return START_S + idle_s

        for line in command.lines(patience_s):
            if line.startswith(b"fleet-"):
                return safe(line.decode("utf-8", "replace"))
        return "fleet-begun"

    @property
    def streams(self) -> bool:
        """Whether a release goes over the step script's own stdin: unless the operator chose another way, and under sudo."""
        host = self._link.host
        return self._transfer not in WAYS or (host.become and host.user != "root")

    def upload_release(self, release: Path, target: str, proceed: Callable[[], None]) -> None:
        """Uploads the release beside its final path by SFTP or SCP; the step script unpacks it and checks its hash.

        `proceed` is called at least once a second; what it raises ends the upload. Raises as `upload` does.
        """
        began_at = time.monotonic()
        brought = compressed_release(release)
        with TURNS.turn(proceed) as going_on:
            upload(
                self._link,
                brought.data,
                self._path(target),
                how=self._transfer,
                rate=self._rate,
                proceed=going_on,
            )
        self._tell(self._transfer, brought, began_at)

    def stream_release(self, release: Path, target: str, proceed: Callable[[], None], send: SendRelease) -> None:
        """As `upload_release`, but `send` writes it to the stdin of the step script, which is root and stores the file."""
        began_at = time.monotonic()
        brought = compressed_release(release)
        wanted = Upload(target, len(brought.data), self._state_dir)
        with TURNS.turn(proceed) as going_on, transferring(self._link, self._path(target)) as watch:
            source = Source(brought.data, self._link, watch, self._rate, going_on)
            answer = send(wanted, source)
        if answer.outcome is not Outcome.DONE:
            raise upload_failed(self._path(target), answer.message)
        self._tell("exec", brought, began_at)

    def _path(self, target: str) -> str:
        return f"{self._state_dir}/releases/{target}/nginx.part.gz"

    def _tell(self, way: str, brought: CompressedRelease, began_at: float) -> None:
        sent_bytes = len(brought.data)
        self._notify(
            None,
            f"Uploaded the release by {way} ({_mb(sent_bytes)}, unpacked {_mb(brought.unpacked_bytes)}).",
            took_s=time.monotonic() - began_at,
            data={"transfer": way, "bytes": sent_bytes, "unpacked_bytes": brought.unpacked_bytes},
        )


def refuse_unstarted(line: bytes) -> None:
    """Raises `HostRefused` if the line says that the host does not start its bundle."""
    if line.startswith((UNSAFE.encode(), FAILED.encode())):
        raise _bundle_refused(safe(line.decode("utf-8", "replace")), "")


def _bundle_refused(answer: str, stderr: str) -> HostRefused:
    """The error for the host's answer (`fleet.onhost.bootstrap.receive`), or for its stderr when it gave none."""
    if answer.startswith(UNSAFE):
        return _unsafe(answer.removeprefix(UNSAFE))
    why = answer.removeprefix("fleet-").removeprefix("begun")
    return bundle_failed(f"{why} {stderr}".strip() or "the host gave no reason")


def _unsafe(place: str) -> HostRefused:
    return HostRefused(
        "bundle_failed",
        f"Users other than root can write to {safe(place)}, or replace it: fleet stores and runs no step script there.",
        "Make it and every folder above the state folder (fleet_state_dir, /var/lib/fleet) root's alone (chown root, "
        "chmod go-w). If another user may have written there, remove its folder bundles, too; fleet uploads it again.",
    )


def bundle_failed(why: str) -> HostRefused:
    """The error for a bundle that could not be stored."""
    return HostRefused(
        "bundle_failed",
        f"The step script could not be put on the host: {safe(why)}.",
        "See that the state folder (fleet_state_dir, /var/lib/fleet) has room (df), and that only root can write there.",
    )


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"
