"""The lines of `fleet status` about the file at nginx's path and the package that owns it."""

from fleet.onhost.protocol import Phase, Report, State
from fleet.ui.host_text import version


def path_notes(report: Report) -> list[str]:
    """Who committed the release, where fleet did not; the file at the path, where it is another one than runs; a hold."""
    package = report.package if report.held else None
    on_hold = (
        [f"The package {package.name} is on hold: apt and dnf leave it alone."] if package and package.on_hold else []
    )
    return _committed_note(report) + _file_note(report) + on_hold


def _committed_note(report: Report) -> list[str]:
    record = report.record
    if not report.committed_by or record is None:
        return []
    then = " Type `fleet commit` to write that down, or `fleet rollback`." if record.state is State.BEGUN else ""
    return [f"Committed by someone else: the old master was ended by {report.committed_by}.{then}"]


def _file_note(report: Report) -> list[str]:
    """What the file is, and when it would run."""
    record = report.record
    is_under_way = report.phase in (Phase.SWAPPED, Phase.OVERLAP) and record is not None
    if report.running_sha256 is None or report.path_sha256 == report.running_sha256:
        return []
    if is_under_way and record is not None and report.path_sha256 == record.target:
        return []
    if report.path_sha256 is None:
        return [
            f"The path {report.path or 'of nginx'} holds no file: nginx does not start again after a stop or a reboot."
        ]
    return [f"The path holds {_file(report)}, which does not run: it starts at the next restart or reboot."]


def _file(report: Report) -> str:
    """`nginx 1.22.1-9+deb12u9 of package nginx`, or what the file says of itself and whose it is not."""
    package, itself = report.package, version(report.path_version, report.path_sha256)
    if package is not None and package.is_its_file:
        return f"nginx {package.version} of package {package.name}"
    if package is None:
        return f"nginx {itself}, a file of no package"
    return f"nginx {itself}, which is not the file of package {package.name} {package.version}"
