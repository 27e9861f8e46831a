"""The private judge at one site: check, charge the ledger, compare two models on held-out patients, add noise, sign."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fedcall import __version__
from fedcall.documents import read_unverified, sign
from fedcall.errors import FedcallError
from fedcall.files import write_bytes
from fedcall.genomics.concordance.comparison import Concordance, read_concordance
from fedcall.keys import read_secret, read_signing_key
from fedcall.privacy.ledger.ledger import Ledger, Member, ReleaseRequest, Reservation
from fedcall.privacy.ledger.limits import read_limit
from fedcall.privacy.mechanism.bounded_sum import grid_total, noisy_total
from fedcall.privacy.mechanism.noise import StepContext, keyed_digest
from fedcall.study.judgement import Judgement, judge_event, judge_terms
from fedcall.study.registered_keys import require_registered
from fedcall.study.terms import Study
from fedcall.training.ledger_age import refuse_older_ledger, remember_ledger
from fedcall.weights import STAND_DOWN, Weights, read_weights


@dataclass(frozen=True)
class JudgingOutcome:
    """How the judging ended; free of data-dependent numbers, so it may be printed and logged."""

    state: Literal["judged", "returned", "withheld"]
    judgement: Judgement
    sentence: str


@dataclass(frozen=True)
class JudgingSite:
    """A site and what is its own: keys, ledger, and receipts of its rounds, whose rows the ledger must hold."""

    name: str
    keys: Path
    ledger: Path
    receipts: Sequence[Path] = ()


@dataclass(frozen=True)
class HeldOut:
    """Held-out patients: how the first and the final model called each, and who they are.

    Attributes
    ----------
    initial, final : sequence of Path
        One concordance per patient and model; the file's stem is the patient's name.
    people : mapping of str to Member
        Who each patient is; whoever is not in it is a private person of the patient's name.
    """

    initial: Sequence[Path]
    final: Sequence[Path]
    people: Mapping[str, Member] = field(default_factory=dict)

    def member(self, patient: str) -> Member:
        """Return a patient as the ledger knows people."""
        return self.people.get(patient) or Member(patient, patient)


def judge_models(
    study: Study, site: JudgingSite, models: tuple[Path, Path], held_out: HeldOut, output: Path
) -> JudgingOutcome:
    """Compare the final with the first model on a site's held-out patients, and write the signed judgement.

    The held-out patients are charged first, as persons, under the study's cap, the hospital's own limit and every limit
    they were ever charged under. A judgement that was already released is returned from the ledger, byte for byte, and
    costs nothing. A held-out patient whose budget is spent counts as no difference.

    Parameters
    ----------
    models : (Path, Path)
        The first and the final global model.
    output : Path
        File to write.

    Raises
    ------
    FedcallError
        If study, site, keys, models and patients do not fit together.
    PrivacyRefusal
        If the ledger refuses.
    """
    first, last = _check_models(study, site, *models)
    people = _read_people(study, site.name, held_out)
    terms, secret, key = judge_terms(study), read_secret(site.keys), read_signing_key(site.keys)
    limit = read_limit(site.ledger)
    refuse_older_ledger(site.ledger, site.keys, study, site.name, site.receipts)
    request = ReleaseRequest(
        study=study.digest,
        site=site.name,
        round=study.judging_round,
        event=judge_event(terms),
        delta=study.privacy.delta,
        max_epsilon=study.privacy.max_epsilon,
        patients=tuple(held_out.member(name) for name in people),
        inputs=_inputs_digest(secret, study, (first, last), people),
        limit=limit,
    )
    with Ledger.open(site.ledger, secret) as ledger:
        reservation = ledger.reserve(request, last.metadata.get(STAND_DOWN, ""))
        remember_ledger(site.keys, ledger)
        if reservation.state == "released" and reservation.artefact is not None:
            signed = reservation.artefact.read_bytes()
            outcome = JudgingOutcome("returned", read_unverified(signed, Judgement)[0], reservation.sentence)
        elif reservation.state == "withheld":
            judgement = _judgement(study, site.name, (first, last), None, reservation)
            signed = sign(judgement, key)
            outcome = JudgingOutcome("withheld", judgement, reservation.sentence)
        else:
            counted = sorted(reservation.charged)  # whose budget is spent was not charged, and counts as no difference
            exact = grid_total((people[name].difference for name in counted), terms.clip)
            context = StepContext(study.digest, site.name, request.round, 1, request.inputs)
            total = noisy_total(secret, context, exact, terms.mechanism, request.event.noise_multiplier)
            judgement = _judgement(study, site.name, (first, last), total, reservation)
            signed = sign(judgement, key)
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


def _check_models(study: Study, site: JudgingSite, initial: Path, final: Path) -> tuple[Weights, Weights]:
    registered = study.site(site.name)
    if registered.holdout is None:
        raise FedcallError(
            f"site '{site.name}' has no held-out patients to judge on in study '{study.name}' (evaluation.epsilon, and"
            " held-out patients declared with 'fedcall study new --site SITE.JSON=PATIENTS+HELDOUT')"
        )
    require_registered(study, site.name, site.keys)
    first, last = read_weights(initial), read_weights(final)
    if first.digest != study.model.initial_weights:
        raise FedcallError(f"{initial}: not the first model of study '{study.name}'; fetch round 1's global model")
    return first, last


def _read_people(study: Study, site: str, held_out: HeldOut) -> Mapping[str, _Person]:
    by_model = []
    for paths in (held_out.initial, held_out.final):
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
