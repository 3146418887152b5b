"""What can go wrong between the laptop and the step script: one exception with a reason word, a message and a remedy.

`visit.visit` turns it into a `HostOutcome`, the commands that ask for host keys show it. Whether the host may have been
changed depends on whether the request was sent, which only the visit knows.

LinkError        before the request: UNREACHABLE · after it: LINK_LOST (it may have happened: ask the host)
├── NoAnswer     the far end is silent: it answers no keepalive, or not the login
├── LoginRefused the login was refused
└── HostRefused  the host was reached and something there must be changed first: REFUSED, nothing was changed
"""


class LinkError(Exception):
    """The link or the far end failed. `reason` is a word for scripts; `message` and `remedy` are for people.

    `may_pass`: the cause is on the way to the host, so that the same may work a little later.
    """

    def __init__(self, reason: str, message: str, remedy: str = "", *, may_pass: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass
        self.reason = reason
        self.message = message
        self.remedy = remedy


class NoAnswer(LinkError):
    """The far end's sshd answers no keepalive, or does not answer the login."""


class LoginRefused(LinkError):
    """The far end refused the login."""


class HostRefused(LinkError):
    """The host answered, and something about it must be changed first."""
