"""Read from a site's ledger what its privacy report needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedcall.privacy.events import Event
from fedcall.privacy.ledger.chain import Row
from fedcall.privacy.ledger.ledger import Ledger, Standing
from fedcall.privacy.ledger.limits import Limit, read_limit
from fedcall.study.terms import Study


@dataclass(frozen=True)
class StudyCharges:
    """The rounds of one study in a ledger.

    Attributes
    ----------
    events : the event of every charged round
    released, withheld : numbers of rounds
    last : time of the study's last row
    """

    study: str
    events: tuple[Event, ...]
    released: int
    withheld: int
    last: str


@dataclass(frozen=True)
class LedgerFacts:
    """What the report needs from a site's ledger.

    Attributes
    ----------
    charged : rounds of this study that are charged, ascending
    standings : charges over all studies and limits, each with the number of people who have them; of those whom this
        study has charged, or of everybody if it has charged nobody yet
    exhausted : for each charged round of this study, how many people had spent their budget and contributed nothing
    limit : the hospital's own, or None
    studies : what is charged, study by study, in the order of their first rows
    head : hash of the last row
    problem : why the chain of rows does not verify, or None
    """

    charged: tuple[int, ...]
    standings: Mapping[Standing, int]
    studies: tuple[StudyCharges, ...]
    head: str
    problem: str | None = None
    exhausted: Mapping[int, int] = field(default_factory=dict)
    limit: Limit | None = None


def read_ledger(path: Path, secret: bytes, study: Study, site: str) -> LedgerFacts:
    """Return the charges of a study and the histories of its patients; a broken chain is reported, not raised.

    Raises
    ------
    FedcallError
        If there is no ledger at `path`; the report never makes one.
    """
    with Ledger.open_to_read(path, secret) as ledger:
        fault = ledger.verify()
        rows = list(ledger.rows())
        mine = {row.round for row in rows if (row.kind, row.study, row.site) == ("reserve", study.digest, site)}
        mine -= {study.judging_round}  # of held-out patients, who trained nothing
        return LedgerFacts(
            charged=tuple(sorted(mine)),
            standings=ledger.standings(study.digest),
            studies=tuple(_charges(digest, rows) for digest in dict.fromkeys(row.study for row in rows)),
            head=ledger.head,
            problem=fault.sentence if fault else None,
            exhausted=ledger.exhausted(study.digest),
            limit=read_limit(path),
        )


def _charges(study: str, rows: Sequence[Row]) -> StudyCharges:
    own = [row for row in rows if row.study == study]
    kinds = [row.kind for row in own]
    return StudyCharges(
        study=study,
        events=tuple(Event.from_json(row.event) for row in own if row.kind == "reserve"),
        released=kinds.count("release"),
        withheld=kinds.count("withhold"),
        last=own[-1].time,
    )
