"""What an upload's decision becomes: an entry of the log, and the signed receipt that is read off that entry."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedcall.documents import sign
from fedcall.federation.aggregator import admission
from fedcall.federation.aggregator.outliers import LEAST_SITES
from fedcall.federation.aggregator.study_log import BLAMELESS, LoggedDecision, SiteHistory, StudyLog
from fedcall.study.admission_log import Decided
from fedcall.study.claims import Receipt
from fedcall.study.terms import Study


def log_entry(
    study: Study,
    history: SiteHistory,
    site: str,
    requested: int,
    digests: tuple[str, str | None],
    decision: admission.UploadDecision,
    settles: bool,
) -> Decided:
    """Return what the log says of a decision; it quarantines the site if this is one refusal too many in a row.

    Parameters
    ----------
    requested : int
        The round that the upload was sent for.
    digests : tuple
        SHA-256 of the claim and of the update as received; None without an update.
    settles : bool
        Whether this is the site's answer to the open round.
    """
    status = "rejected"
    sentence = decision.sentence
    if decision.reason in ("ok", "withheld"):
        status = "accepted" if decision.reason == "ok" else "withheld"
        is_compared = study.admission.outlier_z is not None and len(study.sites) >= LEAST_SITES
        if status == "accepted" and study.sends_sums:
            sentence += "; it is only ever seen as a part of the round's sum"
        elif status == "accepted" and is_compared:
            sentence += "; compared with the other sites when the round closes"
    elif decision.reason == "site-quarantined":
        status = "quarantined"
    elif decision.reason not in BLAMELESS:
        refusals = history.refusals_in_a_row + 1
        if refusals >= study.admission.max_refusals:
            status = "quarantined"
            sentence += f"; {refusals} refusals in a row quarantine the site until the coordinator releases it"
    return Decided.model_validate(
        {
            "site": site,
            "round": requested,
            "claim": digests[0],
            "update": digests[1],
            "document": decision.document,
            "status": status,
            "reason": decision.reason,
            "sentence": sentence,
            "epsilon": decision.epsilon,
            "accepted_rounds": history.accepted_rounds + (status == "accepted"),
            "settles": settles,
            "content": decision.content,
            "released": decision.released,
            "ledger_head": decision.ledger_head,
            "clip_norm": decision.clip_norm,
        }
    )


def signed_receipt(study: Study, log: StudyLog, decision: LoggedDecision, key: Ed25519PrivateKey) -> bytes:
    """Return the receipt of a decision, signed; the same bytes whenever it is made, until its round is closed.

    From then on the receipt of an outlier says so, and that of an update in a sum holds how the sum was opened.
    """
    entry, put_out = decision.entry, decision.put_out
    is_listed = entry.settles and entry.status == "accepted"
    receipt = Receipt(
        study=study.digest,
        site=entry.site,
        round=entry.round,
        claim=entry.document,
        status="quarantined" if put_out else entry.status,
        reason="outlier" if put_out else entry.reason,
        sentence=put_out.sentence if put_out else entry.sentence,
        epsilon=entry.epsilon,
        accepted_rounds=entry.accepted_rounds - (put_out is not None),
        ledger_head=entry.ledger_head,
        log_head=decision.head,
        opened=log.opened_sum(entry.round) if is_listed else None,
    )
    return sign(receipt, key)
