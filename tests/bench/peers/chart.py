"""The chart of the page: CPU time a host of each job, on the most hosts that were measured without a delay."""

from collections.abc import Sequence
from html import escape

from tests.bench.peers.figures import median
from tests.bench.peers.jobs import Job
from tests.bench.peers.results import Row

WIDTH, LABEL, BAR, LINE, GAP = 860, 190, 560, 22, 40
COLOURS = {"controller": "#2563eb", "hosts": "#94a3b8"}
STYLE = "font: 13px system-ui, sans-serif; fill: #475569"


def chart(rows: Sequence[Row]) -> str:
    """An SVG image; each job has a scale of its own."""
    parts, top = [_legend()], 50.0
    for job in Job:
        here = _biggest([row for row in rows if row.job is job and not row.delay_ms])
        if here:
            parts += _job(job, here, top)
            top += LINE * len(here) + GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top:.0f}" style="{STYLE}" role="img">'
    return "\n".join([head, "<title>CPU time a host, in ms</title>", *parts, "</svg>", ""])


def _biggest(rows: Sequence[Row]) -> list[Row]:
    most = max((row.hosts for row in rows), default=0)
    return [row for row in rows if row.hosts == most]


def _legend() -> str:
    swatches = [
        f'<rect x="{LABEL + 150 * number}" y="6" width="12" height="12" fill="{colour}"/>'
        f'<text x="{LABEL + 150 * number + 18}" y="17">{name}, CPU ms a host</text>'
        for number, (name, colour) in enumerate(COLOURS.items())
    ]
    return "\n".join(swatches)


def _job(job: Job, rows: Sequence[Row], top: float) -> list[str]:
    costs = [_cost(row) for row in rows]
    longest = max(controller + hosts for _, controller, hosts in costs) or 1
    parts = [f'<text x="0" y="{top:.0f}" font-weight="600">{escape(job.value)}, {rows[0].hosts} hosts</text>']
    for number, (name, controller, hosts) in enumerate(costs):
        y = top + 8 + LINE * number
        first, second = BAR * controller / longest, BAR * hosts / longest
        parts += [
            f'<text x="{LABEL - 8}" y="{y + 13:.0f}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{LABEL}" y="{y:.0f}" width="{first:.1f}" height="16" fill="{COLOURS["controller"]}"/>',
            f'<rect x="{LABEL + first:.1f}" y="{y:.0f}" width="{second:.1f}" height="16" fill="{COLOURS["hosts"]}"/>',
            f'<text x="{LABEL + first + second + 6:.1f}" y="{y + 13:.0f}">{controller:.0f} + {hosts:.0f}</text>',
        ]
    return parts


def _cost(row: Row) -> tuple[str, float, float]:
    """The contender, and its CPU ms a host: here, and on the hosts."""
    one = median(row.runs)
    return row.name, 1000 * one.controller_cpu_s / row.hosts, 1000 * one.host_cpu_s / row.hosts
