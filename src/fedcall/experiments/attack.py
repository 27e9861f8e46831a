"""Who trained this model? A membership-inference attack on federated models, with and without privacy.

The attacker has the finished model, the candidate's own data, and models trained like it on other halves of the same
people. A patient's score is how much lower the loss on the patient's rows is under the attacked model than under those
others on average (loss threshold with reference models: Watson et al. 2022, "On the importance of difficulty
calibration in membership inference attacks"). Each model is attacked in turn, with the others as references.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fedcall.configuration import SimulatedCohort
from fedcall.experiments.cohort import Person, simulated_people
from fedcall.experiments.documents import AttackReport, Interval
from fedcall.experiments.federation import federate, with_sites
from fedcall.federation.study import Study
from fedcall.genomics.examples import Examples
from fedcall.privacy.accounting import study_epsilon
from fedcall.privacy.noise import derive_key
from fedcall.training.model import build_model, model_from_weights, posteriors, weights_of
from fedcall.weights import Weights

MODELS = 8
COHORT = SimulatedCohort(
    seed=3, sites={"one": 20, "two": 20, "three": 20}, holdout=0, public=0, region_length=20_000, depth=20.0
)
FALSE_ALARMS = 0.01
"""Share of others whom the attacker may name wrongly (Carlini et al. 2022: low error is what counts)."""
REPLICATES = 1000


def attack(
    study: Study, seed: int, on_part: Callable[[str], object] = lambda name: None, cache: Path | None = None
) -> list[AttackReport]:
    """Attack models of the study's terms, and models trained without noise and clipping on the same halves.

    Parameters
    ----------
    study : Study
    seed : int
        Of the halves and of the sites' secrets.
    on_part : callable
        Told what comes next.
    cache : Path, optional
        Where the simulated people are kept; a temporary folder by default.
    """
    with tempfile.TemporaryDirectory(prefix="fedcall-attack-") as folder:
        people = simulated_people(COHORT, cache or Path(folder))
        generator = np.random.Generator(np.random.PCG64(seed))
        halves = np.array([_half(people, generator) for _ in range(MODELS)])
        reports = []
        for name, terms in (("without privacy", without_privacy(study)), ("as in the study", study)):
            on_part(f"attack on models trained {name}")
            losses = np.array([_losses(terms, people, half, generator.bytes(32)) for half in halves])
            reports.append(_report(name, terms, losses, halves))
    return reports


def without_privacy(study: Study) -> Study:
    """Return the study as it would be without privacy: the same steps, without noise, clipping far out of reach."""
    privacy = study.privacy.model_copy(
        update={"noise_multiplier": 0.0, "max_epsilon": None, "clip_norm": 1e3, "clipping": "fixed", "adaptation": None}
    )
    return study.model_copy(update={"privacy": privacy})


def calibrated_scores(losses: np.ndarray) -> np.ndarray:
    """Return how much lower each loss is than under the other models: float64, shape (models, patients)."""
    others = (losses.sum(0) - losses) / (len(losses) - 1)
    return others - losses


def roc(scores: np.ndarray, members: np.ndarray) -> tuple[float, float]:
    """Return the area under the ROC curve, and the share of members named when FALSE_ALARMS of the others are.

    Parameters
    ----------
    scores, members : float64 and bool, any equal shape
        Pooled over models.
    """
    inside, outside = np.sort(scores[members]), np.sort(scores[~members])
    below, upto = np.searchsorted(outside, inside, "left"), np.searchsorted(outside, inside, "right")
    area = float((below + upto).mean() / (2 * len(outside)))
    threshold = outside[len(outside) - 1 - int(FALSE_ALARMS * len(outside))]
    return area, float((inside > threshold).mean())


def _half(people: Sequence[Person], generator: np.random.Generator) -> np.ndarray:
    """Draw half of the patients of each site: bool, shape (people,)."""
    taken = np.zeros(len(people), bool)
    for site in COHORT.sites:
        own = np.flatnonzero([person.site == site for person in people])
        taken[generator.permutation(own)[: len(own) // 2]] = True
    return taken


def _losses(study: Study, people: Sequence[Person], members: np.ndarray, seed: bytes) -> np.ndarray:
    """Train on the members through rounds and sites, and return everybody's mean loss: float64, shape (people,)."""
    sites: dict[str, dict[str, Examples]] = {site: {} for site in COHORT.sites}
    for person, taken in zip(people, members, strict=True):
        if taken:
            sites[person.site][person.name] = person.examples
    trained = with_sites(study, {site: len(patients) for site, patients in sites.items()})
    weights = federate(trained, weights_of(build_model()), sites, derive_key(seed, b"attack"))
    model = model_from_weights(Weights(weights, {}), "attacked model").eval()
    return np.array([_mean_loss(posteriors(model, person.examples), person.examples) for person in people])


def _mean_loss(probabilities: np.ndarray, examples: Examples) -> float:
    rows = np.flatnonzero(examples.labels >= 0)
    right = probabilities[rows, examples.labels[rows]].astype(np.float64)
    return float(-np.log(np.maximum(right, 1e-12)).mean()) if len(rows) else 0.0


def _report(name: str, study: Study, losses: np.ndarray, members: np.ndarray) -> AttackReport:
    scores = calibrated_scores(losses)
    area, named = roc(scores, members)
    generator = np.random.Generator(np.random.PCG64(0))
    drawn = [generator.integers(0, scores.shape[1], scores.shape[1]) for _ in range(REPLICATES)]
    resampled = np.array([roc(scores[:, people], members[:, people]) for people in drawn])
    (area_low, named_low), (area_high, named_high) = np.quantile(resampled, [0.025, 0.975], axis=0)
    epsilon = study_epsilon(study.privacy, study.rounds).pld if study.privacy.noise_multiplier else None
    promise = "trained without privacy" if epsilon is None else f"with epsilon {epsilon:.2f} per {study.privacy.unit}"
    return AttackReport(
        model="without privacy" if name == "without privacy" else "as in the study",
        epsilon=epsilon,
        models=len(losses),
        patients=scores.shape[1],
        auc=Interval(value=area, low=float(area_low), high=float(area_high)),
        named_of_100=100 * named,
        tpr_at_1_percent=Interval(value=named, low=float(named_low), high=float(named_high)),
        sentence=(
            f"Of 100 patients who trained a model {promise}, the attacker names {100 * named:.1f}"
            f" ({100 * float(named_low):.1f}-{100 * float(named_high):.1f}) while naming 1 of 100 who did not; guessing"
            f" names 1. AUC {area:.3f} ({float(area_low):.3f}-{float(area_high):.3f}; guessing 0.5)."
        ),
    )
