"""One pretend host: its disk, processes, limits, sshd and nginx."""
