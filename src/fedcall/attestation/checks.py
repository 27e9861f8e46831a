"""What a verification checked, step by step, and its one way to say no."""

import hmac
from collections.abc import Collection
from dataclasses import dataclass

from fedcall.errors import PrivacyRefusal


class EvidenceRefused(PrivacyRefusal):
    """Evidence does not show what the policy demands: a code for programs, a sentence for people."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(f"evidence refused ({code}): {sentence}")
        self.code = code
        self.sentence = sentence


@dataclass(frozen=True)
class Check:
    """One thing that was checked: what it is, what is allowed, what the evidence says."""

    code: str
    what: str
    allowed: str
    found: str


class Checks:
    """The checks of one verification, in their order. The first that fails ends it."""

    def __init__(self) -> None:
        self.done: list[Check] = []

    def require(self, holds: bool, code: str, what: str, *, allowed: str, found: str) -> None:
        """Record a check that holds.

        Raises
        ------
        EvidenceRefused
            If it does not hold.
        """
        if not holds:
            raise EvidenceRefused(code, f"{what}: found {found}; allowed is {allowed}")
        self.done.append(Check(code, what, allowed, found))

    def require_binding(self, bound_to: bytes, expected: bytes, what: str) -> None:
        """Record that a quote or report is bound to the 64 bytes expected; errors as of `require`."""
        self.require(
            len(expected) == 64 and hmac.compare_digest(bound_to, expected),
            "binding",
            f"nonce, keys and study that the {what} is bound to",
            allowed=f"{expected.hex()[:16]}…",
            found=f"{bound_to.hex()[:16]}…",
        )

    def require_image(self, measurement: str, known: Collection[str]) -> None:
        """Record that the image that runs is one of the policy's, by its digest in hex; errors as of `require`."""
        allowed = ", ".join(f"{one[:16]}…" for one in known)
        self.require(
            measurement in known, "measurement", "image that runs", allowed=allowed, found=f"{measurement[:16]}…"
        )
