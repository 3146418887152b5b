"""What can go wrong between the laptop and the step script, as one exception with a reason word, a message, a remedy.

Raised anywhere in this package, turned into a `HostOutcome` in one place (`session.visit`), never seen outside. Whether
the host may have been changed is not known here: it depends on whether the request was sent.

LinkError     before the request: UNREACHABLE · after it: LINK_LOST (it may have happened: ask the host)
└── HostRefused the host was reached and can't be worked with: REFUSED, nothing was changed
"""


class LinkError(Exception):
    """The link or the far end failed us. `reason` is a word for scripts, the rest is for people.

    `may_pass`: it was about the way there, not about who we are; the same may work a little later.
    """

    def __init__(self, reason: str, message: str, remedy: str = "", *, may_pass: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass
        self.reason = reason
        self.message = message
        self.remedy = remedy


class HostRefused(LinkError):
    """The host answered and something about it must be changed first."""
