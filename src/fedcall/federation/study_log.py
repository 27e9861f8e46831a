"""What the aggregator's log adds up to: which round is open, and what is known of each site."""

import time
from dataclasses import dataclass, field

from fedcall.federation.admission_log import AdmissionLog, Decided, Entry, Fetched, Line, Opened, Released
from fedcall.privacy.terms import PrivacyTerms

# Refusals that say nothing about the honesty of a site do not count towards its quarantine.
BLAMELESS = ("ok", "withheld", "late", "site-quarantined")


@dataclass(frozen=True)
class Decision:
    """A decision in its place in the log."""

    entry: Decided
    seconds: int
    head: str


@dataclass
class SiteHistory:
    """What the log says about one site."""

    accepted_rounds: int = 0
    refusals_in_a_row: int = 0
    is_quarantined: bool = False
    releases: dict[str, PrivacyTerms] = field(default_factory=dict)
    clip_norm: float | None = None  # where adaptive clipping stands
    answers: dict[tuple[str, str | None], Decision] = field(default_factory=dict)
    settled: dict[int, Decided] = field(default_factory=dict)


class StudyLog:
    """The log of a study, summed up; follows what this and other processes append."""

    def __init__(self, log: AdmissionLog) -> None:
        self.log = log
        self.openings: dict[int, Opened] = {}
        self.opened_at = 0
        self.fetched: set[str] = set()
        self.decisions: list[Decision] = []
        self._sites: dict[str, SiteHistory] = {}
        self._taken = 0
        self.catch_up()

    @property
    def open_round(self) -> int:
        """Number of the round that is open, `rounds + 1` once the study is done; 0 before the first."""
        return max(self.openings, default=0)

    def site(self, name: str) -> SiteHistory:
        """Return the history of a site; an empty one if the log does not know it."""
        return self._sites.setdefault(name, SiteHistory())

    def catch_up(self) -> None:
        """Take in what was appended."""
        self.log.catch_up()
        for line in self.log.lines[self._taken :]:
            self._take(line)
        self._taken = len(self.log.lines)

    def append(self, entry: Entry) -> Line:
        """Append to the log and take it in."""
        line = self.log.append(entry, int(time.time()))
        self.catch_up()
        return line

    def _take(self, line: Line) -> None:
        entry = line.entry
        if isinstance(entry, Opened):
            self.openings[entry.round], self.opened_at = entry, line.seconds
        elif isinstance(entry, Fetched):
            self.fetched.add(entry.site)
        elif isinstance(entry, Released):
            site = self.site(entry.site)
            site.is_quarantined, site.refusals_in_a_row = False, 0
        else:
            self._take_decision(Decision(entry, line.seconds, line.head))

    def _take_decision(self, decision: Decision) -> None:
        entry = decision.entry
        site = self.site(entry.site)
        self.decisions.append(decision)
        site.answers[entry.claim, entry.update] = decision
        if entry.settles:
            site.settled[entry.round] = entry
        if entry.content is not None and entry.released is not None:
            site.releases.setdefault(entry.content, entry.released)
            site.clip_norm = site.clip_norm if entry.clip_norm is None else entry.clip_norm
        if entry.status == "accepted":
            site.accepted_rounds += 1
            site.refusals_in_a_row = 0
        elif entry.reason not in BLAMELESS:
            site.refusals_in_a_row += 1
        site.is_quarantined = site.is_quarantined or entry.status == "quarantined"
