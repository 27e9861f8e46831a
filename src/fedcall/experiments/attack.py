"""Who trained this model? A membership-inference attack on federated models, with and without privacy.

The attacker has the finished model, the patient's own data with the truth, and models trained like it on other halves
of the same people. A patient's score is how much lower the loss on the patient's rows is under the attacked model than
under the others on average (loss threshold with reference models: Watson et al. 2022, "On the importance of difficulty
calibration in membership inference attacks"). Each model is attacked in turn, with the others as references.

People are simulated, and few: a model remembers people the better the fewer it has. The models without privacy are
trained the ordinary way until they remember; those with privacy as the study trains, in as many steps.
"""

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from fedcall.experiments.documents import AttackReport, Interval, MembershipReport
from fedcall.experiments.federation import federate, with_sites
from fedcall.genomics.examples import Examples
from fedcall.genomics.pileup.extraction import extract_examples
from fedcall.model.caller import build_model, model_from_weights, posteriors, weights_of
from fedcall.privacy.accounting.epsilon import largest_loss, round_event, study_epsilon
from fedcall.privacy.accounting.membership import membership
from fedcall.privacy.mechanism.noise import derive_key
from fedcall.privacy.terms import PrivacyTerms
from fedcall.simulation.cohort import simulate_cohort
from fedcall.study.terms import ModelTerms, Study, TrainingTerms
from fedcall.weights import Weights
from fedcall.workflow.configuration import SimulatedCohort

Attacked = Literal["without privacy", "as in the study"]
ATTACKED: tuple[Attacked, ...] = ("without privacy", "as in the study")
"""How the attacked models are trained."""
MODELS = 12
COHORT = SimulatedCohort(
    seed=3, sites={"one": 12, "two": 12}, holdout=0, public=0, public_holdout=0, region_length=10_000, depth=12.0
)
STEPS = 60
"""Of every model: enough to remember a dozen people without privacy."""
FALSE_ALARMS = 0.05
"""Share of others whom the attacker may name wrongly (Carlini et al. 2022: low error is what counts)."""
REPLICATES = 1000
_ROUNDS = 3
_ROWS = 32
_LEARNING_RATE = 0.3
_NOISE_IN_WEIGHTS = 0.02
"""Standard deviation to which the noise of a site's steps adds up in a weight, for a model that still works. The
learning rate sets it; it scales noise and pull alike, so that it neither hides nor shows anybody."""


@dataclass(frozen=True)
class SimulatedPerson:
    """One simulated person."""

    name: str
    site: str
    examples: Examples


def attack_models(study: Study, seed: int, attacked: Attacked) -> MembershipReport:
    """Train models of one kind on halves of the people, and attack them; both kinds are trained on the same halves.

    Parameters
    ----------
    study : Study
        Its privacy terms are those of the private models; sites and weights may be missing.
    seed : int
        Of the halves and of the sites' secrets.
    attacked : str
        One of ATTACKED.
    """
    terms = with_privacy(study) if attacked == "as in the study" else without_privacy(study)
    generator = np.random.Generator(np.random.PCG64(seed))
    with tempfile.TemporaryDirectory(prefix="fedcall-attack-") as folder:
        people = _people(Path(folder))
        halves = np.array([_half(people, generator) for _ in range(MODELS)])
        secrets = {kind: [generator.bytes(32) for _ in halves] for kind in ATTACKED}
        losses = [_losses(terms, people, half, secret) for half, secret in zip(halves, secrets[attacked], strict=True)]
    return _report(attacked, terms, np.array(losses), halves)


def attack_report(without: MembershipReport, private: MembershipReport) -> AttackReport:
    """Return what the attacks on both kinds of models say together."""
    return AttackReport(
        models=MODELS,
        patients=len(COHORT.rows),
        false_alarms=FALSE_ALARMS,
        without_privacy=without,
        as_in_study=private,
        sentence=_sentence(without, private),
    )


def without_privacy(study: Study) -> Study:
    """Return terms that train the ordinary way: everybody in every step, no noise, clipping far out of reach."""
    terms = PrivacyTerms(
        clip_norm=1e3,
        noise_multiplier=0.0,
        sampling_rate=1.0,
        steps_per_round=STEPS // _ROUNDS,
        rows_per_unit=_ROWS,
        max_epsilon=None,
    )
    return _terms(study, terms, _ROUNDS, _LEARNING_RATE)


def with_privacy(study: Study) -> Study:
    """Return the study's privacy terms for the attacked people, in at most STEPS steps."""
    steps = min(study.privacy.steps_per_round, STEPS)
    rounds = max(1, min(study.rounds, STEPS // steps))
    # Ten people cannot pay for a quantile; the same epsilon is kept at a fixed norm.
    changes = {"steps_per_round": steps, "max_epsilon": None, "clipping": "fixed", "adaptation": None}
    # In the clear and with its own noise: to whoever sees sums, pooled noise is as much.
    changes |= {"noise": "own", "max_epsilon_if_broken": None}
    if study.privacy.unit == "patient":
        changes["rows_per_unit"] = min(study.privacy.rows_per_unit, _ROWS)
    terms = PrivacyTerms.model_validate({**study.privacy.model_dump(), **changes})
    units = len(COHORT.rows) / len(COHORT.sites) / 2 * (terms.examples_per_patient or 1)
    noise = terms.noise_multiplier * (math.sqrt(2) if terms.mechanism == "laplace" else 1.0)
    moved = noise * terms.clip_norm * math.sqrt(rounds * steps) / (terms.sampling_rate * units)
    if terms.contribution == "delta" and moved:  # a delta is a step: shorter ones carry less noise into the weights
        shorter = terms.model_copy(update={"clip_norm": terms.clip_norm * _NOISE_IN_WEIGHTS / moved})
        return _terms(study, shorter, rounds, _LEARNING_RATE)
    return _terms(study, terms, rounds, _NOISE_IN_WEIGHTS / moved if moved else _LEARNING_RATE)


def calibrated_scores(losses: np.ndarray) -> np.ndarray:
    """Return how much lower each loss is than under the other models: float64, shape (models, patients)."""
    others = (losses.sum(0) - losses) / (len(losses) - 1)
    advantage: np.ndarray = others - losses
    return advantage


def area_under_curve(scores: np.ndarray, members: np.ndarray) -> float:
    """Return the chance that a member's score is above another's (ties count half)."""
    inside, outside = scores[members], np.sort(scores[~members])
    below, upto = np.searchsorted(outside, inside, "left"), np.searchsorted(outside, inside, "right")
    return float((below + upto).mean() / (2 * len(outside)))


def share_right(scores: np.ndarray, members: np.ndarray) -> float:
    """Return the share of right decisions of an attacker who names the half of each model's patients scored highest.

    Parameters
    ----------
    scores, members : float64 and bool, shape (models, patients)
        Half of the patients of each model are members, and the attacker knows that.
    """
    named = scores > np.median(scores, axis=1, keepdims=True)
    return float((named == members).mean())


def share_named(scores: np.ndarray, members: np.ndarray, false_alarms: float = FALSE_ALARMS) -> float:
    """Return the share of members above a threshold that at most `false_alarms` of the others pass."""
    outside = np.sort(scores[~members])
    threshold = outside[len(outside) - 1 - int(false_alarms * len(outside))]
    return float((scores[members] > threshold).mean())


def most_named(epsilon: float, delta: float, false_alarms: float = FALSE_ALARMS) -> float:
    """Return the largest share of members that (ε, δ) lets any attacker name (Kairouz et al. 2015, theorem 2.1)."""
    return min(
        1.0, math.exp(epsilon) * false_alarms + delta, 1 - math.exp(-epsilon) * max(0.0, 1 - delta - false_alarms)
    )


def _terms(study: Study, privacy: PrivacyTerms, rounds: int, learning_rate: float) -> Study:
    # All weights are trained, whatever the study trains: a model remembers more, the more of it may move.
    return Study(
        name=study.name,
        rounds=rounds,
        model=ModelTerms(trainable="all"),
        training=TrainingTerms(learning_rate=learning_rate),
        privacy=privacy,
    )


def _people(folder: Path) -> list[SimulatedPerson]:
    simulate_cohort(COHORT, folder)
    people = []
    for row in COHORT.patients(folder):
        alignments = folder / f"{row.patient}.bam"
        examples = extract_examples(alignments, folder / "reference.fa", row.regions, row.truth, row.patient)
        people.append(SimulatedPerson(row.patient, row.site, examples))
    return people


def _half(people: Sequence[SimulatedPerson], generator: np.random.Generator) -> np.ndarray:
    """Draw half of the patients of each site: bool, shape (people,)."""
    taken = np.zeros(len(people), bool)
    for site in COHORT.sites:
        own = np.flatnonzero([person.site == site for person in people])
        taken[generator.permutation(own)[: len(own) // 2]] = True
    return taken


def _losses(study: Study, people: Sequence[SimulatedPerson], members: np.ndarray, secret: bytes) -> np.ndarray:
    """Train on the members through rounds and sites, and return everybody's mean loss: float64, shape (people,)."""
    sites: dict[str, dict[str, Examples]] = {site: {} for site in COHORT.sites}
    for person, taken in zip(people, members, strict=True):
        if taken:
            sites[person.site][person.name] = person.examples
    trained = with_sites(study, {site: len(patients) for site, patients in sites.items()})
    weights = federate(trained, weights_of(build_model()), sites, derive_key(secret, b"attack"))
    model = model_from_weights(Weights(weights, {}), "attacked model").eval()
    return np.array([_mean_loss(posteriors(model, person.examples), person.examples) for person in people])


def _mean_loss(probabilities: np.ndarray, examples: Examples) -> float:
    rows = np.flatnonzero(examples.labels >= 0)
    right = probabilities[rows, examples.labels[rows]].astype(np.float64)
    return float(-np.log(np.maximum(right, 1e-12)).mean()) if len(rows) else 0.0


def _report(model: Attacked, study: Study, losses: np.ndarray, members: np.ndarray) -> MembershipReport:
    scores, terms = calibrated_scores(losses), study.privacy
    generator = np.random.Generator(np.random.PCG64(0))
    drawn = [generator.integers(0, scores.shape[1], scores.shape[1]) for _ in range(REPLICATES)]

    def with_interval(figure: Callable[[np.ndarray, np.ndarray], float]) -> Interval:
        again = [figure(scores[:, people], members[:, people]) for people in drawn]
        low, high = np.quantile(again, [0.025, 0.975])
        return Interval(value=figure(scores, members), low=float(low), high=float(high))

    epsilon = study_epsilon(terms, study.rounds).pld if terms.noise_multiplier else None
    # What an epsilon per example allows says nothing about a patient (invariant 9).
    bounds_patients = epsilon is not None and terms.unit == "patient"
    loss = largest_loss([(round_event(terms), study.rounds)], terms.delta)
    allowed = membership(epsilon, terms.delta, loss) if bounds_patients else None
    return MembershipReport(
        model=model,
        epsilon=epsilon,
        unit=terms.unit,
        delta=terms.delta,
        steps=study.rounds * terms.steps_per_round,
        accuracy=with_interval(share_right),
        most_accuracy=allowed.accuracy if allowed else None,
        auc=with_interval(area_under_curve),
        named=with_interval(share_named),
        most_named=most_named(epsilon, terms.delta) if allowed and epsilon is not None else None,
    )


def _sentence(without: MembershipReport, private: MembershipReport) -> str:
    text = (
        "An attacker who must decide whether a patient took part is right in"
        f" {100 * private.accuracy.value:.0f} of 100 cases with the study's noise, and in"
        f" {100 * without.accuracy.value:.0f} without privacy; guessing is right in 50."
    )
    if private.most_accuracy is None:
        return f"{text} The study's epsilon, if it has one, bounds no patient."
    return f"{text} The study's epsilon lets no attacker be right in more than {100 * private.most_accuracy:.0f}."
