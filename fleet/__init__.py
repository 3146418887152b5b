"""Upgrade the nginx binary on many servers over SSH without losing a request, and take it back as calmly.

How to read this package, from the ground up: nouns (`host`, `task`, `events`, `inventory`, `release`, `plan`), decisions
(`gates`, `rollout`), effects (`ssh`, `engine`), faces (`console`, `status`, `cli`). A file imports only from floors
below its own. `onhost` is the part that travels to the host and runs there; `lab` makes pretend hosts to try it all on.
"""

__version__ = "0.3.0"
