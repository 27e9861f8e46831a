"""The private judge at one site: check, charge the ledger, compare two models on held-out patients, add noise, sign."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedcall import __version__
from fedcall.documents import read_unverified, sign
from fedcall.errors import FedcallError
from fedcall.files import write_bytes
from fedcall.genomics.concordance.comparison import Concordance, read_concordance
from fedcall.keys import read_identity, read_secret, read_signing_key
from fedcall.privacy.ledger.ledger import Ledger, ReleaseRequest, Reservation
from fedcall.privacy.mechanism.bounded_sum import grid_total, noisy_total
from fedcall.privacy.mechanism.noise import StepContext, keyed_digest
from fedcall.study.judgement import Judgement, judge_event, judge_terms
from fedcall.study.terms import Study
from fedcall.training.ledger_age import refuse_older_ledger, remember_ledger
from fedcall.weights import STAND_DOWN, Weights, read_weights


@dataclass(frozen=True)
class JudgingOutcome:
    """How the judging ended; free of data-dependent numbers, so it may be printed and logged."""

    state: Literal["judged", "returned", "withheld"]
    judgement: Judgement
    sentence: str


def judge_models(
    study: Study,
    site: str,
    keys: Path,
    initial: Path,
    final: Path,
    initial_concordances: Sequence[Path],
    final_concordances: Sequence[Path],
    ledger_path: Path,
    output: Path,
    receipts: Sequence[Path] = (),
) -> JudgingOutcome:
    """Compare the final with the first model on a site's held-out patients, and write the signed judgement.

    The held-out patients' rows of the ledger are charged first. A judgement that was already released is returned from
    the ledger, byte for byte, and costs nothing. A held-out patient whose budget is spent counts as no difference.

    Parameters
    ----------
    initial, final : Path
        The first and the final global model.
    initial_concordances, final_concordances : sequence of Path
        One concordance per held-out patient and model; the file's stem is the patient's name in the ledger.
    receipts : sequence of Path
        Receipts of the site's rounds: the ledger must hold the rows they name.

    Raises
    ------
    FedcallError
        If study, site, keys, models and patients do not fit together.
    PrivacyRefusal
        If the ledger refuses.
    """
    models = _check_models(study, site, keys, initial, final)
    people = _read_people(study, site, initial_concordances, final_concordances)
    terms, secret, number = judge_terms(study), read_secret(keys), study.judging_round
    refuse_older_ledger(ledger_path, keys, study, site, receipts)
    request = ReleaseRequest(
        study=study.digest,
        site=site,
        round=number,
        event=judge_event(terms),
        delta=study.privacy.delta,
        max_epsilon=study.privacy.max_epsilon,
        patients=tuple(people),
        inputs=_inputs_digest(secret, study, models, people),
    )
    with Ledger.open(ledger_path, secret) as ledger:
        reservation = ledger.reserve(request, models[1].metadata.get(STAND_DOWN, ""))
        remember_ledger(keys, ledger)
        if reservation.state == "released" and reservation.artefact is not None:
            signed = reservation.artefact.read_bytes()
            outcome = JudgingOutcome("returned", read_unverified(signed, Judgement)[0], reservation.sentence)
        elif reservation.state == "withheld":
            judgement = _judgement(study, site, models, None, reservation)
            signed = sign(judgement, read_signing_key(keys))
            outcome = JudgingOutcome("withheld", judgement, reservation.sentence)
        else:
            counted = sorted(reservation.charged)  # whose budget is spent was not charged, and counts as no difference
            exact = grid_total((people[name].difference for name in counted), terms.clip)
            context = StepContext(study.digest, site, number, 1, request.inputs)
            total = noisy_total(secret, context, exact, terms.mechanism, request.event.noise_multiplier)
            judgement = _judgement(study, site, models, total, reservation)
            signed = sign(judgement, read_signing_key(keys))
            ledger.release(request, signed)
            outcome = JudgingOutcome("judged", judgement, "judged and charged")
    write_bytes(output, signed)
    return outcome


@dataclass(frozen=True)
class _Person:
    """A held-out patient's calls by both models against the truth."""

    initial: Concordance
    final: Concordance

    @property
    def difference(self) -> float:
        """F1 by the final less that by the first model; 0 where the truth has no variant, so that nothing differs."""
        before, after = self.initial.all.f1, self.final.all.f1
        return 0.0 if before is None or after is None else after - before


def _check_models(study: Study, site: str, keys: Path, initial: Path, final: Path) -> tuple[Weights, Weights]:
    registered = study.site(site)
    if registered.holdout is None:
        raise FedcallError(
            f"site '{site}' has no held-out patients to judge on in study '{study.name}' (evaluation.epsilon, and"
            " held-out patients declared with 'fedcall study new --site SITE.JSON=PATIENTS+HELDOUT')"
        )
    if read_identity(keys).public_key != registered.public_key:
        raise FedcallError(f"{keys}: not the keys that study '{study.name}' registers for site '{site}'")
    first, last = read_weights(initial), read_weights(final)
    if first.digest != study.model.initial_weights:
        raise FedcallError(f"{initial}: not the first model of study '{study.name}'; fetch round 1's global model")
    return first, last


def _read_people(study: Study, site: str, initial: Sequence[Path], final: Sequence[Path]) -> Mapping[str, _Person]:
    by_model = []
    for paths in (initial, final):
        named = {path.stem: path for path in map(Path, paths)}
        if len(named) != len(paths):
            raise FedcallError("a held-out patient is given twice for one model; a patient is one concordance")
        by_model.append(named)
    before, after = by_model
    for name in sorted(set(before) ^ set(after)):
        raise FedcallError(f"held-out patient '{name}': give the concordance of both models, or of neither")
    declared = study.site(site).holdout or 0
    if not before:
        raise FedcallError(f"no held-out patient given; site '{site}' declared {declared}")
    if len(before) > declared:
        raise FedcallError(
            f"{len(before)} held-out patients given, but site '{site}' declared {declared} in study '{study.name}';"
            " give the declared number or fewer, or agree on a new study"
        )
    people = {name: _Person(read_concordance(before[name]), read_concordance(after[name])) for name in sorted(before)}
    for name, person in people.items():
        if person.initial.regions_digest != person.final.regions_digest:
            raise FedcallError(f"held-out patient '{name}': the two models were scored on different regions")
    if not any(person.initial.regions_bases for person in people.values()):
        raise FedcallError(
            f"no held-out patient of site '{site}' has regions within evaluation.regions"
            f" ({', '.join(study.unseen_regions)}), so the models cannot be compared there"
        )
    return people


def _inputs_digest(secret: bytes, study: Study, models: tuple[Weights, Weights], people: Mapping[str, _Person]) -> str:
    parts = [study.digest, *(model.digest for model in models)]
    for name, person in people.items():
        parts += [name, person.initial.digest, person.final.digest]
    return keyed_digest(secret, "judge", *(part.encode() for part in parts))


def _judgement(
    study: Study, site: str, models: tuple[Weights, Weights], total: int | None, reservation: Reservation
) -> Judgement:
    return Judgement(
        study=study.digest,
        site=site,
        outcome="withheld" if total is None else "released",
        initial=models[0].digest,
        final=models[1].digest,
        people=study.site(site).holdout or 0,
        total=total,
        evaluation=judge_terms(study),
        ledger_head=reservation.head,
        software=f"fedcall {__version__}",
    )
