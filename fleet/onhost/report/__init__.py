"""What `status` shows of a host: the end of every visit, and all of a look.

May import everything on the host below `visit`. It loads what most hosts have nothing of only where a host has it.
"""
