"""The values that the examples of documents and events share."""

from fleet.onhost.reasons.catalogue import finding
from fleet.onhost.views import RehearsalSummary

OLD_SHA256, NEW_SHA256 = "3f6c1d" + "0" * 58, "9a41be" + "0" * 58
ROLLOUT, OPERATOR = "20261123-1012-k7qd", "alice@desk"
FOUND = finding("daemon_off", pid=812, parent="init", ppid=1)
REHEARSAL = RehearsalSummary(
    workers=4, listeners=12, questions=13, alike=13, took_s=0.71, cpu_s=0.13, memory_kb=9040, disk_kb=0
)
