"""The two errors a person can meet, each with its exit code.

Anything else that escapes is a bug of ours: exit code 1 and a traceback.
"""

import errno
import os

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class FedcallError(Exception):
    """A mistake in what the user gave us: one line with what was found, where, and what to do."""

    exit_code = 2


def no_room(error: BaseException) -> FedcallError | None:
    """Return, in one line, that a disk is full or cannot be written; None if the error says something else.

    Libraries in C tell of it in their own words, without a number.
    """
    number = error.errno if isinstance(error, OSError) else None
    text = str(error)
    told = next((one for one in _FULL if os.strerror(one) in text or f"os error {one}" in text), None)
    if number not in _FULL and told is None:
        return None
    name = getattr(error, "filename2", None) or getattr(error, "filename", None) or "a file"
    why = os.strerror(number if number in _FULL else told or errno.ENOSPC)
    return FedcallError(
        f"{name}: cannot be written ({why}); make room and run the same command again: no file is left half-written,"
        " and nothing is charged twice"
    )


class PrivacyRefusal(FedcallError):  # noqa: N818  (a refusal is an outcome, not a malfunction)
    """A privacy rule forbids what was asked: one line with the rule and how to go on."""

    exit_code = 3
