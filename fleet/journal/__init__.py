"""The laptop's journal: every event of every run, on the disk before it is acted on; and the lock of those who write it.

where.py     which database is meant, and whether its file system can be trusted with shared memory
database.py  one open connection: durable, made and brought up to date on the way in, every trouble a `JournalError`
schema.py    the tables, and the steps from any older form to this one
store.py     events in and out; the newest rollout, or the one that a few letters name
story.py     what became of a run and of a rollout, told from its first and last event
lock.py      one changing run per journal at a time, and how it is taken over
process.py   whether a process of another run is still there

The journal is the story, never the truth: that is on the hosts. A rollback needs no journal.
"""
