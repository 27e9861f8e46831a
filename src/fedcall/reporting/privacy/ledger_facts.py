"""Read from a site's ledger what its privacy report needs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedcall.privacy.accounting.filter import Charge
from fedcall.privacy.events import Event
from fedcall.privacy.ledger.chain import LedgerRow
from fedcall.privacy.ledger.ledger import Ledger, Standing
from fedcall.privacy.ledger.limits import Limit, read_limit
from fedcall.study.terms import Study


@dataclass(frozen=True)
class StudyCharges:
    """The charges of one study in a ledger: its rounds, and its judge.

    Attributes
    ----------
    charged : number of charged releases
    of_people : what single people were charged; held-out people, who judge, are others than those trained on
    released, withheld : numbers of rounds
    last : time of the study's last row
    """

    study: str
    charged: int
    of_people: tuple[tuple[tuple[Event, int], ...], ...]
    released: int
    withheld: int
    last: str


@dataclass(frozen=True)
class JudgeCharge:
    """What the private judge charged: how many held-out people, and how many counted as no difference instead."""

    people: int
    exhausted: int


@dataclass(frozen=True)
class FamilyCharges:
    """What close relatives were charged together.

    Attributes
    ----------
    people : of the family
    charges : study, event and number of its rounds in which at least one of them took part, over all of the ledger
    """

    people: int
    charges: tuple[Charge, ...]

    @property
    def studies(self) -> int:
        """Number of studies that charged one of them."""
        return len({study for study, _, _ in self.charges})


@dataclass(frozen=True)
class LedgerFacts:
    """What the report needs from a site's ledger.

    Attributes
    ----------
    charged : rounds of this study that are charged, ascending
    standings : charges over all studies and limits, each with the number of people who have them; of those whom this
        study has charged, or of everybody if it has charged nobody yet
    training : the same of those whom a round of training has charged
    exhausted : for each charged round of this study, how many people had spent their budget and contributed nothing
    judge : None before this study's judge has charged anybody
    limit : the hospital's own, or None
    families : close relatives among the training patients, as far as they are known
    studies : what is charged, study by study, in the order of their first rows
    head : hash of the last row
    problem : why the chain of rows does not verify, or None
    """

    charged: tuple[int, ...]
    standings: Mapping[Standing, int]
    training: Mapping[Standing, int]
    studies: tuple[StudyCharges, ...]
    head: str
    problem: str | None = None
    exhausted: Mapping[int, int] = field(default_factory=dict)
    limit: Limit | None = None
    judge: JudgeCharge | None = None
    families: tuple[FamilyCharges, ...] = ()


def read_ledger(
    path: Path, secret: bytes, study: Study, site: str, families: Iterable[Sequence[str]] = ()
) -> LedgerFacts:
    """Return the charges of a study and the histories of its patients; a broken chain is reported, not raised.

    `families` are the names of close relatives. They tell genotypes, so what follows from them stays at the site.

    Raises
    ------
    FedcallError
        If there is no ledger at `path`; the report never makes one.
    """
    groups = tuple(families)
    with Ledger.open_to_read(path, secret) as ledger:
        fault = ledger.verify()
        rows = [row for row in ledger.rows() if row.kind != "withdraw"]
        mine = {row.round for row in rows if (row.kind, row.study, row.site) == ("reserve", study.digest, site)}
        exhausted, judging = ledger.exhausted(study.digest), study.judging_round
        judge = None
        if judging in mine:
            people = ledger.charged_in(study.digest, judging)
            judge = JudgeCharge(people, exhausted.pop(judging))
        of_people = ledger.charges_by_study()
        return LedgerFacts(
            charged=tuple(sorted(mine - {judging})),
            standings=ledger.standings(study.digest),
            training=ledger.standings(study.digest, range(1, judging)),
            studies=tuple(
                _charges(digest, rows, of_people.get(digest, ())) for digest in dict.fromkeys(row.study for row in rows)
            ),
            head=ledger.head,
            problem=fault.sentence if fault else None,
            exhausted=exhausted,
            limit=read_limit(path),
            judge=judge,
            families=tuple(
                FamilyCharges(len(names), charges)
                for names, charges in zip(groups, ledger.charges_of_groups(groups), strict=True)
            ),
        )


def _charges(
    study: str, rows: Sequence[LedgerRow], of_people: tuple[tuple[tuple[Event, int], ...], ...]
) -> StudyCharges:
    own = [row for row in rows if row.study == study]
    kinds = [row.kind for row in own]
    return StudyCharges(
        study=study,
        charged=kinds.count("reserve"),
        of_people=of_people,
        released=kinds.count("release"),
        withheld=kinds.count("withhold"),
        last=own[-1].time,
    )
