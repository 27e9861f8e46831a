"""What the aggregator's log adds up to: which round is open, and what is known of each site."""

import time
from dataclasses import dataclass, field

from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.admission_log import (
    AdmissionLog,
    Closed,
    Concluded,
    Decided,
    Entry,
    Fetched,
    Hidden,
    Judged,
    LogLine,
    Opened,
    Ordered,
    PutOut,
    Released,
    SetAside,
)
from fedcall.study.opened_sums import OpenedSum

# Refusals that say nothing about the honesty of a site do not count towards its quarantine.
BLAMELESS = ("ok", "withheld", "late", "site-quarantined")


@dataclass(frozen=True)
class LoggedDecision:
    """A decision in its place in the log; `put_out` if the update was an outlier when its round closed.

    `seconds` and `head` are those of the last word on it.
    """

    entry: Decided
    seconds: int
    head: str
    put_out: PutOut | None = None

    @property
    def identifier(self) -> str:
        """Name of the upload, and of its folder in quarantine."""
        return f"{self.entry.site}-{self.entry.round}-{self.entry.claim[:12]}"

    @property
    def is_refused(self) -> bool:
        """Whether the update was refused, at its arrival or when its round closed."""
        return self.put_out is not None or self.entry.status in ("rejected", "quarantined")


@dataclass(frozen=True)
class Judging:
    """The answer to a judgement in its place in the log."""

    entry: Judged
    head: str


@dataclass
class SiteHistory:
    """What the log says about one site."""

    accepted_rounds: int = 0
    refusals_in_a_row: int = 0  # since an update of the site last stood when its round closed
    refused_in_round: int = 0  # uploads, while the open round is open
    is_quarantined: bool = False
    releases: dict[str, PrivacyTerms] = field(default_factory=dict)
    clip_norm: float | None = None  # where adaptive clipping stands
    answers: dict[tuple[str, str | None], LoggedDecision] = field(default_factory=dict)
    settled: dict[int, LoggedDecision] = field(default_factory=dict)
    judgements: dict[str, Judging] = field(default_factory=dict)  # by the SHA-256 of the bytes received
    judged: Judging | None = None  # the site's answer

    @property
    def refusals(self) -> int:
        """Number of uploads refused so far."""
        return sum(decision.is_refused for decision in self.answers.values())


class StudyLog:
    """The log of a study, summed up; follows what this and other processes append."""

    def __init__(self, log: AdmissionLog) -> None:
        self.log = log
        self.openings: dict[int, Opened] = {}
        self.ordered: dict[int, Ordered] = {}  # by round: the one list whose sum is opened
        self.heads: dict[int, str] = {}  # of the log, when a round opened
        self.opened_at = 0
        self.fetched: set[str] = set()
        self.concluded: Concluded | None = None
        self.concluded_head = ""
        self.closed: Closed | None = None
        self.closed_head = ""
        self.interventions: list[tuple[int, SetAside | Released]] = []
        self._sites: dict[str, SiteHistory] = {}
        self._taken = 0
        self.catch_up()

    @property
    def open_round(self) -> int:
        """Number of the round that is open, `rounds + 1` once the study is done; 0 before the first."""
        return max(self.openings, default=0)

    def final_round(self, rounds: int) -> int:
        """Return the number under which the final model is, or will be, of a study of so many rounds."""
        return self.closed.round + 1 if self.closed is not None else rounds + 1

    def is_over(self, rounds: int) -> bool:
        """Say whether a study of so many rounds has its final model."""
        return self.open_round >= self.final_round(rounds)

    @property
    def decisions(self) -> list[LoggedDecision]:
        """All decisions, by the time of the last word on each."""
        decisions = [decision for site in self._sites.values() for decision in site.answers.values()]
        return sorted(decisions, key=lambda decision: decision.seconds)

    def opened_sum(self, number: int) -> OpenedSum | None:
        """Return how the sum of a closed round was opened; None if no helper was asked, or the round is not closed."""
        ordered, following = self.ordered.get(number), self.openings.get(number + 1)
        if ordered is None or following is None or not following.masks:
            return None
        return OpenedSum(order=ordered.order, answers=following.masks)

    def site(self, name: str) -> SiteHistory:
        """Return the history of a site; an empty one if the log does not know it."""
        return self._sites.setdefault(name, SiteHistory())

    def catch_up(self) -> None:
        """Take in what was appended."""
        self.log.catch_up()
        for line in self.log.lines[self._taken :]:
            self._take(line)
        self._taken = len(self.log.lines)

    def append(self, entry: Entry) -> LogLine:
        """Append to the log and take it in."""
        line = self.log.append(entry, int(time.time()))
        self.catch_up()
        return line

    def _take(self, line: LogLine) -> None:
        entry = line.entry
        if isinstance(entry, Opened):
            self._take_opening(entry, line)
        elif isinstance(entry, Ordered):
            self.ordered.setdefault(entry.round, entry)
        elif isinstance(entry, Fetched):
            self.fetched.add(entry.site)
        elif isinstance(entry, Judged):
            self._take_judgement(Judging(entry, line.head))
        elif isinstance(entry, Concluded):
            self.concluded, self.concluded_head = entry, line.head
        elif isinstance(entry, Closed):
            self.closed, self.closed_head, self.opened_at = entry, line.head, line.seconds
        elif isinstance(entry, SetAside):
            self.site(entry.site).is_quarantined = True
            self.interventions.append((line.seconds, entry))
        elif isinstance(entry, Released):
            site = self.site(entry.site)
            site.is_quarantined, site.refusals_in_a_row = False, 0
            self.interventions.append((line.seconds, entry))
        elif not isinstance(entry, Hidden):
            self._take_decision(LoggedDecision(entry, line.seconds, line.head))

    def _take_opening(self, entry: Opened, line: LogLine) -> None:
        self.openings[entry.round], self.heads[entry.round] = entry, line.head
        self.opened_at = line.seconds
        put_out_sites = {put_out.site for put_out in entry.outliers}
        for name, site in self._sites.items():
            site.refused_in_round = 0
            settled = site.settled.get(entry.round - 1)
            if settled is not None and settled.entry.status == "accepted" and name not in put_out_sites:
                site.refusals_in_a_row = 0
        for put_out in entry.outliers:
            site = self.site(put_out.site)
            decided = site.settled[entry.round - 1].entry
            decision = LoggedDecision(decided, line.seconds, line.head, put_out)
            site.settled[decided.round] = site.answers[decided.claim, decided.update] = decision
            site.accepted_rounds -= 1
            site.refusals_in_a_row += 1
            site.is_quarantined = site.is_quarantined or put_out.quarantines

    def _take_judgement(self, judging: Judging) -> None:
        site = self.site(judging.entry.site)
        site.judgements[judging.entry.judgement] = judging
        if judging.entry.settles:
            site.judged = judging

    def _take_decision(self, decision: LoggedDecision) -> None:
        entry = decision.entry
        site = self.site(entry.site)
        site.answers[entry.claim, entry.update] = decision
        if entry.settles:
            site.settled[entry.round] = decision
        if entry.content is not None and entry.released is not None:
            site.releases.setdefault(entry.content, entry.released)
            site.clip_norm = site.clip_norm if entry.clip_norm is None else entry.clip_norm
        site.refused_in_round += decision.is_refused
        if entry.status == "accepted":
            site.accepted_rounds += 1
        elif entry.reason not in BLAMELESS:
            site.refusals_in_a_row += 1
        site.is_quarantined = site.is_quarantined or entry.status == "quarantined"
