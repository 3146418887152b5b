"""What a host needs before it can be asked: the step script's bundle, and the release that it is to run.

Both are known by their hash. Nothing that is brought here changes what the host runs, so a failure on the way is one
of before the request.
"""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from fleet.onhost.text import safe
from fleet.ssh.delivery.bundle import GENERIC, Bundle, BundleStore, fitting, receive_text
from fleet.ssh.delivery.compress import compressed_release
from fleet.ssh.delivery.psutil_wheels import WheelUnavailable
from fleet.ssh.delivery.rate_limit import Rate
from fleet.ssh.delivery.upload import Source, transferring, upload
from fleet.ssh.link_errors import HostRefused
from fleet.ssh.remote.root_command import START_S, RootCommand
from fleet.ssh.remote.start_line import Platform
from fleet.ssh.transport.connection import Link

UNSAFE, FAILED = "fleet-unsafe ", "fleet-failed "

log = logging.getLogger("fleet.ssh")


class NoteSink(Protocol):
    """Tells the operator of what was brought, or could not be, and then by which word."""

    def __call__(self, reason: str | None, message: str, **values: Any) -> None: ...


class Provisioner:
    """Brings them over one link. `no_psutil` is why the host has to have psutil of its own, if it has to."""

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
        """Whether a psutil that is not at hand may be had."""
        return isinstance(self._bundles, BundleStore)

    def keys(self, without: str = "") -> tuple[str, ...]:
        """The bundles that will do, the best first, but the one with this tag."""
        ordered = sorted(self._bundles.values(), key=lambda each: each.tag == GENERIC)
        return tuple(bundle.key for bundle in ordered if bundle.tag != without)

    def bundle_for(self, platform: Platform) -> Bundle:
        """The bundle with psutil for that platform, fetched if need be, or the one for hosts that have their own."""
        if isinstance(self._bundles, BundleStore):
            try:
                return self._bundles.fetch(platform.tag)
            except WheelUnavailable as error:
                self.no_psutil = f"fleet has no psutil for {platform.tag}: {error}."
                self._notify("psutil_not_fetched", f"{self.no_psutil} The host's own is used.")
        return fitting(platform.tag, self._bundles)

    def upload_bundle(self, bundle: Bundle, proceed: Callable[[], None]) -> None:
        """The host has the bundle, checked by hash. `proceed` is called again and again; what it raises ends the upload.

        Raises `HostRefused` with the host's own reason, `LinkError`.
        """
        with transferring(self._link, "the step script") as watch:
            command = RootCommand.run_text(self._link)
            source = Source(bundle.data, self._link, watch, self._rate, proceed)

            def waiting() -> None:
                proceed()
                source.progressed()  # a login that is slow to begin is not an upload that stalls

            said = self._sent(bundle, command, source, proceed) if command.begin(waiting) else ""
        if not said:
            raise command.ended_early()
        command.close()
        if said != "fleet-stored":
            raise _not_taken(said, command.stderr)
        log.info("%s: the bundle for %s was stored", self._link.host.name, bundle.tag)

    def _sent(self, bundle: Bundle, command: RootCommand, source: Source, proceed: Callable[[], None]) -> str:
        """The host's answer to the bundle, `fleet-begun` if it gave none."""
        idle_s = self._link.deadlines.transfer_idle_s
        source.progressed()
        # The host's answer says more than that it did not take everything.
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

    def upload_release(self, release: Path, target: str, proceed: Callable[[], None]) -> None:
        """The release lies compressed_release beside its place on the host; the step script unpacks it and checks its hash.

        `proceed` is called again and again; what it raises ends the upload. Raises as `upload` does.
        """
        began_at = time.monotonic()
        brought = compressed_release(release)
        way = upload(
            self._link,
            brought.data,
            f"{self._state_dir}/releases/{target}/nginx.part.gz",
            how=self._transfer,
            rate=self._rate,
            proceed=proceed,
        )
        sent_bytes = len(brought.data)
        self._notify(
            None,
            f"uploaded the release by {way} ({_mb(sent_bytes)}, unpacked {_mb(brought.unpacked_bytes)})",
            took_s=time.monotonic() - began_at,
            data={"transfer": way, "bytes": sent_bytes, "unpacked_bytes": brought.unpacked_bytes},
        )


def refuse_unstarted(line: bytes) -> None:
    """Raises the `HostRefused` that this line means, if it is the answer of a host that does not start its bundle."""
    if line.startswith((UNSAFE.encode(), FAILED.encode())):
        raise _not_taken(safe(line.decode("utf-8", "replace")), "")


def _not_taken(said: str, complaint: str) -> HostRefused:
    """What the host's answer means (`fleet.onhost.bootstrap.receive`), or its complaint."""
    if said.startswith(UNSAFE):
        return _unsafe(said.removeprefix(UNSAFE))
    why = said.removeprefix("fleet-").removeprefix("begun")
    return bundle_failed(f"{why} {complaint}".strip() or "the host did not say why")


def _unsafe(place: str) -> HostRefused:
    return HostRefused(
        "bundle_failed",
        "No step script is put into the state folder or run there: somebody else than root can write to "
        f"{safe(place)}, or put another in its place.",
        "Give it to root and let nobody else write there (chown root, chmod go-w), nor to any folder on the way to the "
        "state folder (fleet_state_dir, /var/lib/fleet), or choose another one. If somebody may have used that, remove "
        "the folder bundles in it, too: what belongs there is brought again.",
    )


def bundle_failed(why: str) -> HostRefused:
    """What to say when the bundle is not where it was to be."""
    return HostRefused(
        "bundle_failed",
        f"The step script could not be put on the host: {safe(why)}.",
        "See that the state folder (fleet_state_dir, /var/lib/fleet) has room and that only root can write there.",
    )


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"
