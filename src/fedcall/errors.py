"""The two errors a person can meet, each with its exit code.

Anything else that escapes is a bug of ours: exit code 1 and a traceback.
"""


class FedcallError(Exception):
    """A mistake in what the user gave us: one line with what was found, where, and what to do."""

    exit_code = 2


class PrivacyRefusal(FedcallError):  # noqa: N818  (a refusal is an outcome, not a malfunction)
    """A privacy rule forbids what was asked: one line with the rule and how to go on."""

    exit_code = 3
