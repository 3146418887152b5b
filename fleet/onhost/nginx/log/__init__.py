"""A new release judged by its log: the kinds of line, what the running release wrote, what the operator allows.

May import `error_log` and `log_files` beside it, and what `nginx` may. `baseline` is the door.
"""
