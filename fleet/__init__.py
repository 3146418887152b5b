"""Upgrade the nginx binary on many servers over SSH without losing a request, and roll it back the same way.

From the bottom up: nouns (`host`, `task`, `events`, `errors`, `inventory`, `release`, `plan`), decisions (`rollout`),
effects (`ssh`, `journal`, `engine`), the outside of a command (`environment`), faces (`ui`, `runs`, `commands`, `options`,
`cli`). A module imports only from lower floors. `onhost` is sent to the hosts and runs there; `lab` runs real sshd and
nginx on this machine as test hosts; `reference` makes pages of `docs/` from the code.
"""

__version__ = "0.3.0"
