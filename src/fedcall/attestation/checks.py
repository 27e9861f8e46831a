"""What a verification checked, step by step, and its one way to say no."""

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
