"""How fleet reaches a host: one SSH connection, the bundle, the release, and the conversation with the step script.

The only package that imports Fabric, paramiko and scp. May import the nouns and `onhost`. Used from outside: by
`environment`, `visit` and `transport.bastion` for a run, and `auth.prompts` before it; by `fleet trust`, `scan`,
`hostkeys` and `link_errors`; by `reference`, `reasons`.
"""
