"""The journal on the laptop: every event of every run, written to disk before fleet acts on it, and the lock of its writers.

location.py          the database that `--journal` names, and whether its file system supports shared memory and locks
schema.py            the tables, and the migrations from every older version
sql.py               the few statements that a database must take
file_connection.py   a file, by the standard library's SQLite, with durable writes
server_connection.py a database server, by SQLAlchemy; imported for a URL only
database.py          one open connection and its transactions; every error is a `JournalError`
process_identity.py  whether the process of another run still exists
lock.py              the lock that lets one run per journal change hosts at a time
run_summary.py       runs and rollouts, summed up from their first and last event
journal.py           `Journal`: appends and reads events, lists and finds rollouts

The hosts, not the journal, say what state they are in; a rollback needs no journal.
May import `events`, `errors` and `onhost`.
"""
