"""What a rehearsal shows, made by hand: two generations that came up alike, unless a test says otherwise."""

from fleet.onhost.nginx.config_files import ConfigFiles
from fleet.onhost.rehearsal.evidence import Answered, Defect, Fault, Generation, Opened, Rehearsal
from tests.support.onhost.recorded import PID_FILE

UP = Generation(
    0.1,
    workers=2,
    listeners=(Opened("tcp", "0.0.0.0:80", 1),),
    modules=("/usr/lib/nginx/modules/ngx_stream_module.so",),
    answers=(Answered("tcp 0.0.0.0:80", "200", True),),
    environment=("PATH", "TZ"),
    user=33,
    error_log="/var/log/nginx/error.log",
    pid_file=PID_FILE,
)


def failed(
    defect: Defect,
    *lines: str,
    text: str = "it exited",
    path: str | None = None,
    signal: int | None = None,
    workers: int = 0,
) -> Generation:
    """A generation that did not come up."""
    return Generation(3.0, Fault(defect, text, path, signal), workers, lines=lines)


def shown(new: Generation | None = UP, old: Generation | None = UP, why_not: str | None = None) -> Rehearsal:
    """A rehearsal; without `old` the new release was started alone."""
    return Rehearsal(old, new, old is None or old.fault is not None, why_not)


def files(text: str = "events {}") -> ConfigFiles:
    """A configuration of one file."""
    return ConfigFiles((("/etc/nginx/nginx.conf", text),))
