"""The one-run audit: does training leak more than it claims? Asked of the very functions that train a study.

Three scenes, because faults show in different places. In each, canaries stand at many sites and take part by a coin:

- crowd: everybody is drawn in every step. Whoever knows the canaries looks in the update for the pull of each.
  Shows too little noise and contributions that are too long.
- sampled: one canary in twenty is drawn. Shows sampling that does not happen.
- alone: a bystander and perhaps a canary. Whoever knows nothing looks at the length of the update.
  Shows a release whose scale depends on who takes part.

What is not seen: noise that is used twice (every site makes its own; tests of the keys look at that), the ledger, and
a leak that these guessers do not look for. A lower bound proves a leak; none proves nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedcall.experiments.bounds import Guesses, claimed_curve, contradicts, epsilon_bound, guess
from fedcall.experiments.canaries import directions, make_canary
from fedcall.experiments.federation import with_sites
from fedcall.federation.study import Study
from fedcall.genomics.examples import Examples
from fedcall.privacy.accounting import study_epsilon
from fedcall.privacy.terms import PrivacyTerms
from fedcall.training import dp_sgd
from fedcall.training.model import build_model

SceneName = Literal["crowd", "sampled", "alone"]
DELTA = 1e-5
ROWS = 4
"""Equal rows of a canary patient."""
_CLIP_NORM = 0.5
_LEARNING_RATE = 1e-3
"""Small, so that the canaries' directions stay what they were. It scales updates and leaks nothing."""
_SITE = "audited"


@dataclass(frozen=True)
class Scene:
    """Who stands at a site, and the numbers of its mechanism: chosen so that a fault shows, not as in any study."""

    sites: int
    canaries: int  # at each site
    bystanders: int
    steps: int
    rate: float
    noise_multiplier: float


SCENES: dict[SceneName, Scene] = {
    # More canaries at one site could not be told apart: the fresh model's head is all they pull at.
    "crowd": Scene(sites=1000, canaries=10, bystanders=0, steps=1, rate=1.0, noise_multiplier=1.4),
    "sampled": Scene(sites=250, canaries=12, bystanders=0, steps=1, rate=0.05, noise_multiplier=1.3),
    "alone": Scene(sites=300, canaries=1, bystanders=1, steps=1, rate=1.0, noise_multiplier=4.0),
}


@dataclass(frozen=True)
class Finding:
    """What one scene showed.

    Attributes
    ----------
    claimed : ε of the scene by the accountant, at DELTA
    guesses : those that prove most
    lower_bound : ε that is contradicted at DELTA, whatever the mechanism (Steinke et al. 2023)
    caught : the guesses contradict the whole claimed curve (Mahloujifar et al. 2024), or the lower bound the claim
    """

    scene: SceneName
    claimed: float
    guesses: Guesses
    lower_bound: float
    caught: bool


def audit_scene(study: Study, name: SceneName, confidence: float, seed: int) -> Finding:
    """Train with canaries, guess who took part, and compare with the claim.

    Parameters
    ----------
    study : Study
        Its unit, mechanism and trainable part are audited, and, in the crowd, its clipping: other scenes have too few
        patients to follow a quantile. All other numbers are the scene's own.
    confidence : float
        Chance, at least, that a sound implementation is not said to break its claim.
    seed : int
        Of canaries, coins and the sites' secrets.
    """
    # Coins and canaries may be known to anybody afterwards, so they need not come from a keyed stream.
    generator = np.random.Generator(np.random.PCG64([seed, list(SCENES).index(name)]))
    terms = scene_terms(study.privacy, name)
    scores, members = _play(study, terms, name, generator)
    guesses = guess(scores, members)
    claimed = study_epsilon(terms, 1).pld
    bound = epsilon_bound(guesses, DELTA, confidence)
    return Finding(
        scene=name,
        claimed=claimed,
        guesses=max(guesses, key=lambda one: epsilon_bound([one], DELTA, confidence)),
        lower_bound=bound,
        caught=bound > claimed or contradicts(claimed_curve(terms), guesses, confidence),
    )


def scene_terms(terms: PrivacyTerms, name: SceneName) -> PrivacyTerms:
    """Return privacy terms of the study's kind with the scene's numbers."""
    scene, kind = SCENES[name], {}
    if name == "crowd" and terms.clipping == "adaptive":
        kind = {"clipping": terms.clipping, "adaptation": terms.adaptation}
    return PrivacyTerms(
        unit=terms.unit,
        mechanism=terms.mechanism,
        clip_norm=_CLIP_NORM,
        noise_multiplier=scene.noise_multiplier,
        sampling_rate=scene.rate,
        steps_per_round=scene.steps,
        rows_per_unit=ROWS if terms.unit == "patient" else 1,
        examples_per_patient=1 if terms.unit == "example" else None,
        delta=DELTA,
        **kind,
    )


def _play(
    study: Study, terms: PrivacyTerms, name: SceneName, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a score per canary and site, and whether the canary took part."""
    scene = SCENES[name]
    people = {
        f"patient-{index:02d}": make_canary(generator, terms.rows_per_unit)
        for index in range(scene.canaries + scene.bystanders)
    }
    canaries = dict(list(people.items())[: scene.canaries])
    tensors, pulls = directions(build_model(study.model), canaries)
    scores, members = [], []
    for _ in range(scene.sites):
        coins = generator.random(len(canaries)) < 0.5
        absent = {patient for patient, taken in zip(canaries, coins, strict=True) if not taken}
        present = {patient: one for patient, one in people.items() if patient not in absent}
        update = _train(study, terms, len(people), present, generator.bytes(32))
        if name == "alone":
            length = np.sqrt(sum(float((tensor.astype(np.float64) ** 2).sum()) for tensor in update.values()))
            scores.append(np.full(1, -length))  # dividing by more patients makes an update shorter
        else:
            # In clip norms of one step, and against the sign of a step down the gradient.
            seen = -np.concatenate([update[tensor].ravel() for tensor in tensors]).astype(np.float64)
            seen *= terms.sampling_rate * len(people) / (_LEARNING_RATE * terms.clip_norm)
            scores.append(_how_often(pulls, seen, terms))
        members.append(coins)
    return np.concatenate(scores), np.concatenate(members)


def _how_often(pulls: np.ndarray, seen: np.ndarray, terms: PrivacyTerms) -> np.ndarray:
    """Return the best linear guess of how often each canary was drawn, given the sum of all noisy steps.

    Canaries pull in similar directions; what another's pull explains is no evidence. The counts have mean Tq/2, and
    `pulls` holds unit vectors (canaries, values), `seen` the released sum (values,).
    """
    steps, rate = terms.steps_per_round, terms.sampling_rate
    mean = steps * rate / 2
    variance = (steps * rate * (1 - rate) + (steps * rate) ** 2) / 2 - mean**2
    noise = steps * terms.noise_multiplier**2 * (2 if terms.mechanism == "laplace" else 1)
    overlap = variance * (pulls @ pulls.T) + noise * np.eye(len(pulls))
    return np.linalg.solve(overlap, pulls @ (seen - mean * pulls.sum(0)))


def _train(
    study: Study, terms: PrivacyTerms, patients: int, present: Mapping[str, Examples], secret: bytes
) -> dict[str, np.ndarray]:
    training = study.training.model_copy(update={"learning_rate": _LEARNING_RATE, "iterate_averaging": 0.0})
    audited = with_sites(study.model_copy(update={"privacy": terms, "training": training}), {_SITE: patients})
    # Looked up at the call, so that a planted fault is met.
    return dp_sgd.train_privately(build_model(study.model), audited, _SITE, 1, present, secret).tensors
