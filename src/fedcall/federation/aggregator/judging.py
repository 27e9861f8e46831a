"""The judge at the aggregator: answers judgements, closes them, signs the verdict. The log decides, as for updates."""

import hashlib
import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedcall.documents import sign
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.judgement_admission import JudgementDecision, JudgingState, admit_judgement
from fedcall.federation.aggregator.state_files import StudyFiles
from fedcall.federation.aggregator.study_log import Judging, SiteHistory, StudyLog
from fedcall.files import write_bytes
from fedcall.study.admission_log import Concluded, Judged
from fedcall.study.claims import Receipt
from fedcall.study.judgement import JudgedSite, Verdict
from fedcall.study.terms import Study

JUDGEMENTS_OF_A_SITE = 100  # each is a line of the log, which is for ever


class Judge:
    """The judgements of one study."""

    def __init__(self, study: Study, files: StudyFiles, log: StudyLog, key: Ed25519PrivateKey) -> None:
        self._study, self._files, self._log, self._key = study, files, log, key
        self._mend()

    @property
    def is_wanted(self) -> bool:
        """Whether the study has held-out patients who judge."""
        return bool(self._study.judging_sites)

    def answer(self, site: str, signed: bytes, update: bytes) -> bytes:
        """Return the signed receipt of a judgement; the same judgement gets the same receipt, ever after."""
        self._log.catch_up()
        history, digest = self._log.site(site), hashlib.sha256(signed).hexdigest()
        known = history.judgements.get(digest)
        if known is None and len(history.judgements) >= JUDGEMENTS_OF_A_SITE:
            raise FedcallError(f"site '{site}' sent {len(history.judgements)} judgements; no other is looked at")
        if known is None:
            state = JudgingState(
                self._final, self._log.concluded is not None, history.judged is not None, history.is_quarantined
            )
            decision = admit_judgement(self._study, site, state, signed, update)
            entry = self._entry(site, digest, decision)
            if entry.settles:  # stored before the log names it
                write_bytes(self._files.judgement(site), signed)
            self._log.append(entry)
            known = history.judgements[digest]
            if entry.settles:
                write_bytes(self._files.judgement_receipt(site), self._receipt(known, history))
        return self._receipt(known, history)

    def waiting_for(self) -> list[str]:
        """Return the sites whose judgement is still to come."""
        histories = {site.name: self._log.site(site.name) for site in self._study.judging_sites}
        return [name for name, one in histories.items() if one.judged is None and not one.is_quarantined]

    def conclude_if_due(self) -> bool:
        """Close the judgements once every site has judged, or a round's deadline passed; say whether they closed."""
        self._log.catch_up()
        if not self.is_wanted or not self._final or self._log.concluded is not None:
            return False
        late = time.time() > self._log.opened_at + 60 * self._study.aggregation.deadline_minutes
        if self.waiting_for() and not late:
            return False
        answers = [(site, self._log.site(site.name).judged) for site in self._study.judging_sites]
        judged = tuple(
            JudgedSite(site=site.name, people=site.holdout or 0, total=answer.entry.total)
            for site, answer in answers
            if answer is not None and answer.entry.total is not None
        )
        self._log.append(Concluded(sites=judged))
        self._mend()
        return True

    def verdict(self) -> bytes | None:
        """Return the signed verdict, or None before the judgements are closed."""
        if self._log.concluded is None:
            return None
        return sign(
            Verdict(
                study=self._study.digest,
                initial=str(self._study.model.initial_weights),
                final=self._final,
                sites=self._log.concluded.sites,
                log_head=self._log.concluded_head,
            ),
            self._key,
        )

    @property
    def _final(self) -> str:
        opened = self._log.openings.get(self._log.final_round(self._study.rounds))
        opened = opened if self._log.is_over(self._study.rounds) else None
        return opened.base if opened else ""

    def _entry(self, site: str, digest: str, decision: JudgementDecision) -> Judged:
        accepted, withheld = decision.reason == "ok", decision.reason == "withheld"
        quarantined = decision.reason == "site-quarantined"
        terms = self._study.evaluation
        return Judged(
            site=site,
            judgement=digest,
            document=decision.document,
            status="accepted" if accepted else "withheld" if withheld else "quarantined" if quarantined else "rejected",
            reason=decision.reason,
            sentence=decision.sentence,
            epsilon=terms.epsilon if accepted and terms else None,
            total=decision.total,
            settles=accepted or withheld,
            ledger_head=decision.ledger_head,
        )

    def _receipt(self, judging: Judging, history: SiteHistory) -> bytes:
        entry = judging.entry
        receipt = Receipt(
            study=self._study.digest,
            site=entry.site,
            round=self._study.judging_round,
            claim=entry.document,
            status=entry.status,
            reason=entry.reason,
            sentence=entry.sentence,
            epsilon=entry.epsilon,
            accepted_rounds=history.accepted_rounds,
            ledger_head=entry.ledger_head,
            log_head=judging.head,
        )
        return sign(receipt, self._key)

    def _mend(self) -> None:
        """Make again the files that a kill kept from following the log."""
        for site in self._study.judging_sites:
            history, path = self._log.site(site.name), self._files.judgement_receipt(site.name)
            if history.judged is not None and not path.exists():
                write_bytes(path, self._receipt(history.judged, history))
        if self._log.concluded is not None and not self._files.verdict.exists():
            write_bytes(self._files.verdict, self.verdict() or b"")
