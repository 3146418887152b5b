"""Decisions, all pure: where a rollout stands (a fold over its events), and what should be done next.

host.py      one host: how far it got, what is wrong with it, what a visit's end means
status.py    the whole rollout: `fold(status, event) -> status`
policy.py    what the operator chose
moves.py     what a decision asks of the engine
upgrade.py   `decide` for `fleet upgrade`: stage, batches, bakes, commit; budget and the way back
errands.py   `decide` for check, status, commit and rollback, which have no batches
ending.py    how it ended: result, exit code, the one line that says what to do now
requests.py  a visit in full, from the status of its host
"""
