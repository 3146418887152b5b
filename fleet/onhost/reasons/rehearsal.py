"""Reasons of preflight that come from the rehearsal alone: there is none, it shows nothing, or the releases differ in it.

What would fail in the same way at the launch has the word that it has there (`forward`), with one more sentence.
"""

from fleet.onhost.reasons.reason import overridable, refusal, warning

SHARED = (
    "start_crashed",
    "launch_failed",
    "usr2_ignored",
    "pid_dir_full",
    "workers_missing",
    "workers_crash",
    "workers_fatal",
)
"""Words of the launch and of verify that the rehearsal gives, too."""
OTHER_RELEASE = (
    "Use another release: `fleet upgrade RELEASE`. If only the rehearsal lets it happen, leave that out: "
    "`fleet upgrade RELEASE --rehearse off`."
)
CHECK_AGAIN = "then run `fleet check RELEASE`."

REHEARSAL = (
    overridable(
        "not_rehearsed",
        "The upgrade could not be rehearsed on this host: {why}. So it is not known whether the release starts and answers "
        "here, and which listeners it would open.",
        "Correct that, " + CHECK_AGAIN,
    ),
    warning(
        "rehearsal_off",
        "The upgrade was not rehearsed: the users of this host are the first to meet the release, and it is not known whether "
        "it starts, what it logs and answers, and which listeners it opens.",
        "Rehearse it: `fleet check RELEASE` without `--rehearse off`.",
    ),
    overridable(
        "rehearsal_inconclusive",
        "The running release does not start in the rehearsal either, so nothing is known of the new one: {line}.",
        "Correct what that line says (the running nginx would not start again either), " + CHECK_AGAIN,
    ),
    warning(
        "old_would_not_start",
        "The running release would not start with the files that are on the disk now: {line}. So it could not come back "
        "after a commit.",
        "Until the rollout is over, keep what only the new release accepts out of the configuration; or do not commit yet: "
        "`fleet upgrade RELEASE --commit never`.",
    ),
    overridable(
        "fifo_blocks",
        "The new master would wait for a program that writes to {path}, a FIFO: nginx reads it at its start, and serves "
        "nothing before.",
        "Put a plain file there that only root can read (`install -m 400 FILE {path}`), "
        + CHECK_AGAIN
        + " If a program "
        "writes to it at each start of nginx, allow it.",
    ),
    refusal(
        "rehearsal_log",
        "The new release logs what the running one does not: {lines}. {compared}.",
        "Correct what these lines say, " + CHECK_AGAIN + " If a line is harmless, name it: `--allow {pattern}`.",
    ),
    overridable(
        "answers_differ",
        "The new release answers otherwise than the running one: {answers}.",
        "Ask a host that runs the new release (`curl -i URL`), and correct the release or its configuration, "
        + CHECK_AGAIN,
    ),
    refusal(
        "pid_file_moved",
        "The new master would write its pid to another file than {path}, where init scripts look for it.",
        "Set `pid {path};` in nginx.conf, " + CHECK_AGAIN,
    ),
)
