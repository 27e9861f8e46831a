"""Accuracy against epsilon: the same people, the same steps, more or less noise; one line per set of terms."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from fedcall.documents import Document
from fedcall.experiments.cohort import Person, Variant
from fedcall.experiments.documents import Interval
from fedcall.experiments.federation import federate, with_sites
from fedcall.federation.study import Study
from fedcall.genomics.examples import Examples, concatenate
from fedcall.privacy.accounting import noise_multiplier_for, study_epsilon
from fedcall.training.model import VariantCaller, build_model, model_from_weights, posteriors, weights_of
from fedcall.training.public import train_publicly
from fedcall.weights import Weights

RARE = 0.01
"""A variant is rare if fewer than this share of the training people's chromosomes carry it. So are false calls."""
REPLICATES = 1000
_SECRET = bytes(range(32))  # simulated people have no secrets, and equal noise makes reruns equal


class Accuracy(Document):
    """F1 of genotypes on held-out people, with 95 % intervals over people."""

    snps: Interval
    rare_snps: Interval
    indels: Interval


class Point(Document):
    """One model of the sweep."""

    study: str
    unit: str
    clipping: str
    epsilon: float | None
    delta: float
    noise_multiplier: float
    is_own: bool
    accuracy: Accuracy


class Sweep(Document):
    """Everything `fedcall sweep` found."""

    kind: str = "sweep"
    format: int = 1
    people: int
    held_out: int
    public_only: Accuracy
    likelihood: Accuracy
    points: tuple[Point, ...]


def sweep(
    studies: Sequence[Study],
    epsilons: Sequence[float],
    people: Sequence[Person],
    on_point: Callable[[Point], object] = lambda point: None,
) -> Sweep:
    """Train every study at every epsilon, and score the models on held-out people.

    Parameters
    ----------
    studies : sequence of Study
        Terms; noise is set to meet each epsilon, the rest is kept.
    epsilons : sequence of float
        Totals of a study; infinity trains without noise. The study's own noise is added.
    people : sequence of Person
        Simulated ones. Split 'public' makes the first model, 'train' the sites, 'holdout' is scored.
    on_point : callable
        Called with each finished point.
    """
    sites: dict[str, dict[str, Examples]] = {}
    for person in people:
        if person.split == "train":
            sites.setdefault(person.site, {})[person.name] = person.examples
    public = [person.examples for person in people if person.split == "public"]
    initial = train_publicly(build_model(), concatenate(public)) if public else build_model()
    judge = Judge(people)
    points = []
    for study in studies:
        whole = with_sites(study, {site: len(patients) for site, patients in sites.items()})
        own = study.privacy.noise_multiplier
        for noise in sorted({*(_noise(study, epsilon) for epsilon in epsilons), own}):
            terms = whole.privacy.model_copy(update={"noise_multiplier": noise, "max_epsilon": None})
            trained = federate(whole.model_copy(update={"privacy": terms}), weights_of(initial), sites, _SECRET)
            points.append(
                Point(
                    study=study.name,
                    unit=terms.unit,
                    clipping=terms.clipping,
                    epsilon=study_epsilon(terms, study.rounds).pld if noise else None,
                    delta=terms.delta,
                    noise_multiplier=noise,
                    is_own=noise == own,
                    accuracy=judge.score(model_from_weights(Weights(trained, {}), "trained model").eval()),
                )
            )
            on_point(points[-1])
    return Sweep(
        people=sum(len(patients) for patients in sites.values()),
        held_out=len(judge.people),
        public_only=judge.score(initial.eval()),
        likelihood=judge.score(build_model().eval()),
        points=tuple(points),
    )


class Judge:
    """Scores models on the held-out people: candidates' genotypes against all of the truth, seen in reads or not."""

    def __init__(self, people: Sequence[Person]) -> None:
        self.people = [person for person in people if person.split == "holdout"]
        carriers: dict[Variant, int] = {}
        training = [person for person in people if person.split == "train"]
        for person in training:
            for variant, copies in person.truth.items():
                carriers[variant] = carriers.get(variant, 0) + copies
        self._common = {variant for variant, copies in carriers.items() if copies >= RARE * 2 * len(training)}

    def score(self, model: VariantCaller) -> Accuracy:
        """Return F1 by kind of variant."""
        counts = np.array([self._tally(person, posteriors(model, person.examples)) for person in self.people])
        return Accuracy(snps=_f1(counts[:, 0]), rare_snps=_f1(counts[:, 1]), indels=_f1(counts[:, 2]))

    def _tally(self, person: Person, probabilities: np.ndarray) -> np.ndarray:
        """Return right calls, calls and truth for SNPs, rare SNPs and indels: int64, shape (3, 3)."""
        counts = np.zeros((3, 3), np.int64)
        for variant in person.truth:
            counts[self._kinds(variant), 2] += 1
        for row in np.flatnonzero(probabilities.argmax(1) > 0):
            if person.examples.labels[row] < 0:
                continue
            variant = (int(person.examples.position[row]), *person.examples.alleles(int(row)))
            kinds = self._kinds(variant)
            counts[kinds, 1] += 1
            counts[kinds, 0] += int(person.truth.get(variant, 0) == probabilities[row].argmax())
        return counts

    def _kinds(self, variant: Variant) -> list[int]:
        _, ref, alt = variant
        if len(ref) != len(alt):
            return [2]
        return [0] if variant in self._common else [0, 1]


def _noise(study: Study, epsilon: float) -> float:
    return noise_multiplier_for(study.privacy, study.rounds, epsilon) if math.isfinite(epsilon) else 0.0


def _f1(counts: np.ndarray) -> Interval:
    """Return 2 TP / (calls + truth) of counts (people, 3), with a bootstrap interval over people."""
    drawn = np.random.Generator(np.random.PCG64(0)).integers(0, len(counts), (REPLICATES, len(counts)))
    right, calls, truth = np.moveaxis(np.append(counts[drawn].sum(1), counts.sum(0)[None], 0), 1, 0)
    figures = 2 * right / np.maximum(calls + truth, 1)
    low, high = np.quantile(figures[:-1], [0.025, 0.975])
    return Interval(value=float(figures[-1]), low=float(low), high=float(high))
