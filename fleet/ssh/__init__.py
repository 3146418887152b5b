"""How fleet reaches a host: one SSH connection, the bundle, the release, and the conversation with the step script.

The only package that imports Fabric, paramiko and scp. From outside: `visit` (with `request_stop`, `forget_stop`,
`cut_all`) for a run, `auth.prompts` before it, `scan` for `fleet trust`, `reasons` for the reference page.
"""
