"""Whom a ledger means: people and their data as keyed hashes, and how the rows of a sheet become people.

Without the site's secret nobody can try names or data against these hashes; a ledger opened without it knows nobody.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fedcall.errors import FedcallError, PrivacyRefusal
from fedcall.privacy.ledger.registry import PatientRegistry
from fedcall.privacy.ledger.requests import Member
from fedcall.privacy.mechanism.noise import derive_key


@dataclass(frozen=True)
class PeopleKeys:
    """The keys under which a ledger keeps names and data; None without the site's secret."""

    names: bytes | None
    data: bytes | None

    @classmethod
    def of(cls, secret: bytes | None) -> Self:
        """Return the keys that follow from a site's secret."""
        if not secret:
            return cls(None, None)
        return cls(derive_key(secret, b"ledger", b"patients"), derive_key(secret, b"ledger", b"data"))

    def pseudonym(self, name: str) -> str:
        """Return the keyed hash of a name; ValueError without the secret."""
        if self.names is None:
            raise ValueError("a ledger opened without the secret knows no patients.")
        return hmac.digest(self.names, name.encode(), "sha256").hex()[:32]

    def fingerprints(self, member: Member) -> list[str]:
        """Return the keyed hashes of a member's data; ValueError without the secret."""
        if self.data is None:
            raise ValueError("a ledger opened without the secret knows no data.")
        return [hmac.digest(self.data, one.encode(), "sha256").hex()[:32] for one in member.fingerprints]


def enter(registry: PatientRegistry, members: Sequence[Member], keys: PeopleKeys, ledger: Path) -> list[int]:
    """Enter people with their names and data into a registry; return their numbers. `ledger` is for messages.

    Raises
    ------
    FedcallError
        If two rows are one person.
    PrivacyRefusal
        If data of one person is given as another's.
    """
    if not members and not registry.withdrawn:  # noise alone, once everybody has withdrawn, is a release like any
        raise FedcallError("a release needs at least one patient; check the sheet of samples")
    numbers: dict[int, Member] = {}
    given: dict[str, Member] = {}
    for member in members:
        person = registry.person(keys.pseudonym(member.person))
        if person in numbers:
            raise FedcallError(
                f"patients '{numbers[person].patient}' and '{member.patient}' are one person ('{member.person}'),"
                " and a person is one unit; give one row, with the reads of both samples merged (samtools merge)"
            )
        numbers[person] = member
        other = keys.pseudonym(member.patient)
        if not registry.is_known_as(person, other):
            registry.add("alias", person, other)
        for data in keys.fingerprints(member):
            owner = registry.owners.get(data)
            if data in given and given[data] is not member:
                raise PrivacyRefusal(
                    f"patients '{given[data].patient}' and '{member.patient}' have the same data; a person is given"
                    " once, so take one of the two out of the sheet"
                )
            given[data] = member
            if owner is None:
                registry.add("data", person, data)
            elif owner != person and not registry.is_known_as(person, list(registry.people)[owner]):
                raise PrivacyRefusal(
                    f"patient '{member.patient}': {ledger} knows this data as another person's; the ledger"
                    " charges people, whatever their rows are called: give this row the name that the person had"
                    " before (column 'person')"
                )
    return list(numbers)
