"""One pretend host: its disk, its processes and limits, its sshd and nginx.

May import `folder`, `network` and `processes` of the lab; nothing of a lab as a whole, and no kind.
"""
