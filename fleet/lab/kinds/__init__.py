"""The kinds of hosts that `fleet lab up --with KIND` makes: each differs from a plain host in one way.

Many refusals and warnings of preflight have a kind that provokes them; `tests/lab/test_preflight.py:SCENES` has the rest.
To add a kind:

1. Add a `Kind` to `nginx_kinds.py` (how nginx runs, its files, its configuration), to `system_kinds.py` (disk, Python,
   login, sshd, other programs) or to `systemd_kinds.py` (units, sessions, packages). `kind.py` describes the fields.
   `summary` is one plain clause: `fleet lab kinds` prints it.
2. Shell that starts something waits for its effect with `until(...)`; it never sleeps for a fixed time.
3. Add to `tests/lab/kinds/test_all_kinds.py` a line of `SIGNS`: how to see the difference on such a host.
4. If preflight must find it, add a line to `SCENES` in `tests/lab/test_preflight.py`, under the reason that the host gives.

May import `hosts` (its paths and its nginx configuration), `folder` and `processes` of the lab.
"""
