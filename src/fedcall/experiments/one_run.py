"""The one-run audit: does training leak more than it claims? Asked of the very functions that train a study.

Four scenes, because faults show in different places. In each, canaries stand at many sites and take part by a coin:

- crowd: everybody is drawn in every step. Whoever knows the canaries looks in the update for the pull of each; whoever
  also knows the coins measures noise and contributions (`measurement`). Shows too little noise and contributions that
  are too long.
- sampled: one canary in twenty is drawn. Shows sampling that does not happen.
- alone: a bystander and perhaps a canary. Whoever knows nothing looks at the length of the update.
  Shows a release whose scale depends on who takes part.
- study: the study's own noise, sampling and steps, as one long round. Its few canaries show gross faults only, but its
  lower bound is one of the study's own epsilon.

What is not seen: noise that is used twice (every site makes its own; tests of the keys look at that), the ledger, and
a leak that these guessers do not look for. A lower bound proves a leak; none proves nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fedcall.experiments.bounds import Guesses, claimed_curve, contradicts, epsilon_bound, guess
from fedcall.experiments.canaries import directions, make_canary, spread
from fedcall.experiments.federation import with_sites
from fedcall.experiments.measurement import Measurement, measure
from fedcall.genomics.examples import Examples
from fedcall.model.caller import build_model
from fedcall.privacy.accounting.epsilon import study_epsilon
from fedcall.privacy.mechanism.adaptive_clipping import sum_multiplier
from fedcall.privacy.mechanism.clipping import norm_of, row_norms
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.protection import Protection
from fedcall.study.terms import Study
from fedcall.training import dp_sgd

SceneName = Literal["crowd", "sampled", "alone", "study"]
DELTA = 1e-5
ROWS = 4
"""Equal rows of a canary patient."""
MOST_STEPS = 60
"""Steps of the study that its own scene plays, at most."""
MEASUREMENT_SHARE = 1e-4
"""Chance of the measurement's accidental alarm, in those of a scene's guesses: what it shows, it shows beyond doubt."""
_CANDIDATES = 200
_CLIP_NORM = 0.5
_LEARNING_RATE = 1e-3
"""Small, so that the canaries' directions stay what they were. It scales updates and leaks nothing."""
_LOCAL_STEPS = 2
_QUANTILE_NOISE = 0.5
"""Of adaptive clipping: ten patients cannot pay for a precise quantile."""
_SITE = "audited"


@dataclass(frozen=True)
class Scene:
    """Who is at a site, and the numbers of its mechanism: chosen so that a fault shows, not as in any study."""

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
STUDY_SITES, STUDY_CANARIES = 80, 10


@dataclass(frozen=True)
class Finding:
    """What one scene showed.

    Attributes
    ----------
    claimed : ε of the scene by the accountant, at DELTA
    guesses : those that prove most
    lower_bound : ε that is contradicted at DELTA, whatever the mechanism (Steinke et al. 2023)
    outguessed : the guesses contradict the whole claimed curve (Mahloujifar et al. 2024), or the lower bound the claim
    measurement : of noise and contributions, where the scene has one
    """

    scene: SceneName
    claimed: float
    guesses: Guesses
    lower_bound: float
    outguessed: bool
    measurement: Measurement | None

    @property
    def caught(self) -> bool:
        """Whether anything contradicts the claim."""
        return self.outguessed or (self.measurement is not None and self.measurement.contradicts_claim)


@dataclass(frozen=True)
class Releases:
    """What the sites of a scene released, and what whoever made the canaries knows; sums are in clip norms.

    Attributes
    ----------
    pulls : what each canary adds to a sum, float64, shape (canaries, values)
    seen : the released sum of all steps, float64, shape (sites, values)
    members : who took part, bool, shape (sites, canaries)
    """

    pulls: np.ndarray
    seen: np.ndarray
    members: np.ndarray


def scenes_of(study: Study) -> tuple[SceneName, ...]:
    """Return the scenes of a study; one without noise promises nothing that its own scene could contradict."""
    return (*SCENES, "study") if study.privacy.noise_multiplier else tuple(SCENES)


def audit_scene(study: Study, name: SceneName, confidence: float, seed: int) -> Finding:
    """Train with canaries, guess who took part, and compare with the claim.

    Parameters
    ----------
    study : Study
        Its unit, mechanism and trainable part are audited, and, in the crowd, its clipping: other scenes have too few
        patients to follow a quantile. Other numbers are the scene's own, but for the scene "study".
    name : str
        One of `scenes_of(study)`.
    confidence : float
        Chance, at least, that a sound implementation is not said to break its claim by the guesses.
    seed : int
        Of canaries, coins and the sites' secrets.
    """
    # Coins and canaries may be known to anybody afterwards, so they need not come from a keyed stream.
    generator = np.random.Generator(np.random.PCG64([seed, scenes_of(study).index(name)]))
    scene = _scene(study, name)
    terms = scene_terms(study, name)
    releases = _play(study, terms, scene, generator)
    scores = _how_long(releases) if name == "alone" else _how_often(releases, terms).ravel()
    guesses = guess(scores, releases.members.ravel())
    claimed = study_epsilon(terms, 1).pld
    bound = epsilon_bound(guesses, DELTA, confidence)
    return Finding(
        scene=name,
        claimed=claimed,
        guesses=max(guesses, key=lambda one: epsilon_bound([one], DELTA, confidence)),
        lower_bound=bound,
        outguessed=bound > claimed or contradicts(claimed_curve(terms), guesses, confidence),
        measurement=_measure(releases, terms, scene, confidence) if name == "crowd" else None,
    )


def scene_terms(study: Study, name: SceneName) -> PrivacyTerms:
    """Return privacy terms of the study's kind with the scene's numbers."""
    terms, scene = study.privacy, _scene(study, name)
    kind: dict[str, Any] = {}
    if name == "crowd" and terms.adaptation is not None:
        adaptation = terms.adaptation.model_copy(update={"quantile_noise": _QUANTILE_NOISE})
        kind = {"clipping": terms.clipping, "adaptation": adaptation}
    if terms.contribution == "delta":
        kind |= {"contribution": "delta", "local_steps": _LOCAL_STEPS}
    return PrivacyTerms(
        unit=terms.unit,
        mechanism=terms.mechanism,
        # A delta is a step: as long as so many steps of the learning rate down a gradient that is clipped.
        clip_norm=_CLIP_NORM * (_LEARNING_RATE if terms.contribution == "delta" else 1.0),
        noise_multiplier=scene.noise_multiplier,
        sampling_rate=scene.rate,
        steps_per_round=scene.steps,
        rows_per_unit=ROWS if terms.unit == "patient" else 1,
        examples_per_patient=1 if terms.unit == "example" else None,
        delta=DELTA,
        max_epsilon=None,
        **kind,
    )


def _scene(study: Study, name: SceneName) -> Scene:
    if name != "study":
        return SCENES[name]
    terms = study.privacy
    steps = 1 if terms.contribution == "delta" else min(study.rounds * terms.steps_per_round, MOST_STEPS)
    return Scene(STUDY_SITES, STUDY_CANARIES, 0, steps, terms.sampling_rate, terms.noise_multiplier)


def _play(study: Study, terms: PrivacyTerms, scene: Scene, generator: np.random.Generator) -> Releases:
    """Train at every site of a scene."""
    made = {f"candidate-{index:03d}": make_canary(generator, terms.rows_per_unit) for index in range(_CANDIDATES)}
    tensors, pulls = directions(build_model(study.model), made)
    chosen = spread(pulls, scene.canaries + scene.bystanders)
    names = [f"patient-{index:02d}" for index in range(len(chosen))]
    people = dict(zip(names, (list(made.values())[index] for index in chosen), strict=True))
    own = pulls[chosen[: scene.canaries]]
    step_size = 1.0 if terms.contribution == "delta" else _LEARNING_RATE
    scale = terms.sampling_rate * len(people) / (step_size * terms.clip_norm)
    seen, members = [], []
    for _ in range(scene.sites):
        coins = generator.random(scene.canaries) < 0.5
        absent = {name for name, taken in zip(names, coins, strict=False) if not taken}
        present = {name: one for name, one in people.items() if name not in absent}
        update = _train(study, terms, len(people), present, generator.bytes(32))
        # Against the sign of a step down the gradient.
        seen.append(-scale * np.concatenate([update[tensor].ravel() for tensor in tensors]).astype(np.float64))
        members.append(coins)
    lengths = row_norms(own, norm_of(terms.mechanism))
    return Releases(own / lengths[:, None], np.array(seen), np.array(members))


def _how_long(releases: Releases) -> np.ndarray:
    """Return the length of each update, the shorter the higher: dividing by more patients makes it shorter."""
    lengths: np.ndarray = -np.linalg.norm(releases.seen, axis=1)
    return lengths


def _how_often(releases: Releases, terms: PrivacyTerms) -> np.ndarray:
    """Return the best linear guess of how often each canary was drawn: float64, shape (sites, canaries).

    Canaries pull in similar directions; what another's pull explains is no evidence. The counts have mean Tq/2.
    """
    pulls, steps, rate = releases.pulls, terms.steps_per_round, terms.sampling_rate
    mean = steps * rate / 2
    variance = (steps * rate * (1 - rate) + (steps * rate) ** 2) / 2 - mean**2
    noise = steps * terms.noise_multiplier**2 * (2 if terms.mechanism == "laplace" else 1)
    overlap = variance * (pulls @ pulls.T) + noise * np.eye(len(pulls))
    return np.linalg.solve(overlap, pulls @ (releases.seen - mean * pulls.sum(0)).T).T


def _measure(releases: Releases, terms: PrivacyTerms, scene: Scene, confidence: float) -> Measurement:
    noise = sum_multiplier(terms, scene.canaries + scene.bystanders)
    sums, error = releases.members @ releases.pulls, MEASUREMENT_SHARE * (1 - confidence)
    return measure(releases.seen, sums, terms.mechanism, noise, 1 - error)


def _train(
    study: Study, terms: PrivacyTerms, patients: int, present: Mapping[str, Examples], secret: bytes
) -> dict[str, np.ndarray]:
    training = study.training.model_copy(update={"learning_rate": _LEARNING_RATE, "iterate_averaging": 0.0})
    # A site's own noise, in the clear: what pooled noise is made of (shares: `watched`).
    changes = {"privacy": terms, "training": training, "protection": Protection()}
    audited = with_sites(study.model_copy(update=changes), {_SITE: patients})
    # Looked up at the call, so that a planted fault is met.
    return dp_sgd.train_privately(build_model(study.model), audited, _SITE, 1, present, secret).tensors
