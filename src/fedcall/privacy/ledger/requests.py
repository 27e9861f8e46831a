"""What is asked of a ledger and what it answers, and when two requests are the same release."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedcall.privacy.accounting.epsilon import Epsilon
from fedcall.privacy.events import Event
from fedcall.privacy.ledger.chain import LedgerRow
from fedcall.privacy.ledger.limits import Limit, both_limits

FACTS = ("event", "delta", "max_epsilon", "inputs")
"""What must be equal, besides the people, when a round is asked for again."""


@dataclass(frozen=True)
class Member:
    """Somebody in a round: the ledger charges the person, whatever the sheet's row is called."""

    patient: str  # the row's name, unique in the round
    person: str  # a stable name within the hospital
    fingerprints: tuple[str, ...] = ()  # digests that only the same data has; kept as keyed hashes
    is_private: bool = True  # False for simulated people, and those whose data is public


@dataclass(frozen=True)
class ReleaseRequest:
    """What a site wants to release: one round of one study."""

    study: str  # digest of the study
    site: str
    round: int
    event: Event
    delta: float
    max_epsilon: float | None  # the study's cap on the cumulative epsilon of every person; None without a cap
    patients: tuple[Member | str, ...]  # a name alone: a private person of that name, of whose data nothing is known
    inputs: str  # keyed digest of everything the release depends on (`noise.keyed_digest`)
    limit: Limit | None = None  # the hospital's own
    max_epsilon_if_broken: float | None = None  # the study's cap on what pooled noise costs if single updates are seen

    @property
    def members(self) -> tuple[Member, ...]:
        """Everybody in the round."""
        return tuple(Member(one, one) if isinstance(one, str) else one for one in self.patients)

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits that are agreed with this round, for everybody in it."""
        own = () if self.limit is None else both_limits(self.limit, self.event.shares is not None)
        caps = [] if self.max_epsilon is None else [self._cap(self.max_epsilon)]
        return (*own, *caps, *(() if self.cap_if_broken is None else (self.cap_if_broken,)))

    @property
    def cap_if_broken(self) -> Limit | None:
        """The study's cap on what pooled noise costs if single updates are seen."""
        if self.max_epsilon_if_broken is None:
            return None
        return self._cap(self.max_epsilon_if_broken).model_copy(update={"if_broken": True})

    def _cap(self, epsilon: float) -> Limit:
        return Limit(epsilon=epsilon, delta=self.delta, unit=self.event.unit)


@dataclass(frozen=True)
class Reservation:
    """The ledger's answer. All but `charged` is public: it follows from the signed study and the rounds so far."""

    state: Literal["reserved", "released", "withheld"]
    epsilon: Epsilon  # of this study's own rounds, this one included, per unit of the request
    sentence: str
    head: str  # digest of the row that decided, the newest of the chain at that moment
    charged: frozenset[str] = frozenset()  # patients to train on; the others have spent their budget. Stays at the site
    artefact: Path | None = None  # the stored artefact, when state is "released"


@dataclass(frozen=True)
class Exposure:
    """People with the same history, and what it cost them."""

    patients: int
    releases: int
    patient: Epsilon  # what one person's whole data is protected by; infinite after example-level releases
    example: Epsilon  # what one example is protected by


def facts(row: LedgerRow) -> tuple[str, ...]:
    """Return what must be equal when a round is asked for again: the values that FACTS names."""
    return (row.event, row.delta, row.max_epsilon, row.inputs)


def facts_of(request: ReleaseRequest) -> tuple[str, ...]:
    """Return the facts of the row that a request becomes."""
    cap = "" if request.max_epsilon is None else repr(float(request.max_epsilon))
    return (request.event.to_json(), repr(float(request.delta)), cap, request.inputs)


def is_about(row: LedgerRow, request: ReleaseRequest) -> bool:
    """Say whether a row tells of the round that is requested."""
    return (row.study, row.site, row.round) == (request.study, request.site, request.round)


def withheld_sentence(request: ReleaseRequest, epsilon: Epsilon, if_broken: Epsilon) -> str:
    """Return why a round is not made, whoever is in it."""
    if not epsilon.exceeds(request.max_epsilon):
        cap = f"max_epsilon_if_broken {request.max_epsilon_if_broken:g} at delta {request.delta:g}"
        return (
            f"with this round the study's own rounds would reach epsilon {if_broken.pld:.3f} if single updates are"
            f" seen, above {cap}"
        )
    cap = f"max_epsilon {request.max_epsilon:g} at delta {request.delta:g}"
    if not epsilon.is_finite:
        return f"the rounds of this study have no finite epsilon, so {cap} cannot be kept"
    return f"with this round the study's own rounds would reach epsilon {epsilon.pld:.3f}, above {cap}"
