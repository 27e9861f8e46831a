"""Accuracy against epsilon for the same patients in few or many hospitals: own or pooled noise, both contributions.

Every training is the real one, in one process: sites' vectors are added in the clear, which is what masks add up to.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ValidationError

from fedcall.documents import describe
from fedcall.errors import FedcallError
from fedcall.experiments.cohort import refuse_private
from fedcall.experiments.federation import federate, with_sites
from fedcall.experiments.frozen_trunk import TrunkMemory
from fedcall.genomics.examples import Examples, open_examples
from fedcall.model.caller import model_from_weights, posteriors
from fedcall.privacy.accounting.epsilon import noise_multiplier_for
from fedcall.privacy.terms import Contribution, Noise
from fedcall.study.terms import Study
from fedcall.weights import Weights
from fedcall.workflow.configuration import read_samples

EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0)
SPREADS = (1, 3, 12, 30)
"""Hospitals that the training patients are dealt out to, one after the other; 1 is the bound for all others."""

_DELTA_TERMS = {"contribution": "delta", "local_steps": 8, "steps_per_round": 1, "clip_norm": 0.5}
_DELTA_ROUNDS, _DELTA_RATE, _DELTA_SERVER_RATE = 10, 0.5, 2.0  # chosen on simulated training people (docs/results.md)
_MOST_DELTA_TIMES_PATIENTS = 0.0999


@dataclass(frozen=True)
class PoolingPeople:
    """Training patients and held-out ones, by name."""

    training: Mapping[str, Examples]
    held_out: Mapping[str, Examples]


class PooledPoint(BaseModel):
    """One training: F1 of held-out people's candidates, by genotype."""

    sites: int
    noise: Noise
    contribution: Contribution
    epsilon: float
    noise_multiplier: float
    sums: int  # noisy sums of the whole study
    seed: int
    f1: float


Case = tuple[int, Noise, Contribution, float]


def open_people(sheet: Path, results: Path) -> PoolingPeople:
    """Open the examples of a sheet's training and held-out people; private ones are refused.

    Raises
    ------
    PrivacyRefusal
        If anybody's data is private: nothing is charged here.
    FedcallError
        If examples are missing, or nobody trains or is held out.
    """
    rows = [row for row in read_samples(sheet) if row.split in ("train", "holdout") and row.site != "public"]
    refuse_private(sheet, rows)
    found: dict[Literal["train", "holdout"], dict[str, Examples]] = {"train": {}, "holdout": {}}
    for row in rows:
        path = results / row.site / "examples" / f"{row.patient}.safetensors"
        found["train" if row.split == "train" else "holdout"][row.patient] = open_examples(path)
    if not found["train"] or not found["holdout"]:
        raise FedcallError(f"{sheet}: both people to train on and held-out people are needed")
    return PoolingPeople(found["train"], found["holdout"])


def pooled_cases(
    spreads: Sequence[int] = SPREADS,
    epsilons: Sequence[float] = EPSILONS,
    contributions: Sequence[Contribution] = ("gradient", "delta"),
    noises: Sequence[Noise] = ("own", "pooled"),
) -> Iterator[Case]:
    """Yield sites, noise, contribution and epsilon; one site has nobody to pool with, and its noise is its own."""
    for epsilon in epsilons:
        for contribution in contributions:
            for sites in spreads:
                wanted: Sequence[Noise] = ("own",) if sites == 1 else noises
                yield from ((sites, noise, contribution, epsilon) for noise in wanted)


def pooled_points(
    terms: Study,
    initial: Mapping[str, np.ndarray],
    people: PoolingPeople,
    cases: Sequence[Case],
    seeds: Sequence[int],
    on_point: Callable[[PooledPoint], object] = lambda point: None,
    deltas: Study | None = None,
) -> list[PooledPoint]:
    """Train each case with each seed and score its last model.

    Parameters
    ----------
    terms : Study
        What is trained, and the gradient's terms; rounds · steps_per_round is the gradient's number of sums.
    initial : float32 tensors by name
    people : PoolingPeople
    cases : sequence of Case
        As of `pooled_cases`.
    on_point : callable
        Called with each point when it is there.
    deltas : Study, optional
        The terms of deltas: rounds, own steps, clip norm, rates; ten sums with the head's, if left out.

    Raises
    ------
    FedcallError
        If terms and hospitals do not fit together.
    """
    points = []
    memory = TrunkMemory(initial)
    for sites, noise, contribution, epsilon in cases:
        names = sorted(people.training)
        dealt = {f"site{index:02d}": names[index::sites] for index in range(sites)}
        try:
            chosen = _delta_terms(terms, deltas) if contribution == "delta" else terms
            study = _study(chosen, noise, epsilon, sites, len(names))
            whole = with_sites(study, {site: len(own) for site, own in dealt.items()})
        except ValidationError as error:
            raise FedcallError(f"study '{terms.name}' in {sites} hospitals: {describe(error)}") from None
        cohort = {site: {name: people.training[name] for name in own} for site, own in dealt.items()}
        for seed in seeds:
            secret = b"pooled noise against own noise" + seed.to_bytes(9, "big")
            trained = federate(whole, initial, cohort, secret, memory=memory)
            point = PooledPoint(
                sites=sites,
                noise=noise,
                contribution=contribution,
                epsilon=epsilon,
                noise_multiplier=whole.privacy.noise_multiplier,
                sums=whole.rounds * whole.privacy.steps_per_round,
                seed=seed,
                f1=_f1(trained, people.held_out),
            )
            points.append(point)
            on_point(point)
    return points


def as_text(points: Sequence[PooledPoint]) -> str:
    """Return the mean over seeds, lowest and highest beside it: a line for each case."""
    lines = [f"{'epsilon':>8}  {'contribution':<14}{'sites':>6}  {'noise':<8}{'sums':>5}{'F1':>8}  lowest-highest"]
    cases = dict.fromkeys((one.epsilon, one.contribution, one.sites, one.noise, one.sums) for one in points)
    for case in cases:
        epsilon, contribution, sites, noise, sums = case
        found = [one.f1 for one in points if (one.epsilon, one.contribution, one.sites, one.noise, one.sums) == case]
        lines.append(
            f"{epsilon:>8g}  {contribution:<14}{sites:>6}  {noise:<8}{sums:>5}{np.mean(found):>8.4f}"
            f"  {min(found):.4f}-{max(found):.4f} ({len(found)} seeds)"
        )
    return "\n".join(lines)


def _delta_terms(terms: Study, deltas: Study | None) -> Study:
    """Return the terms of deltas: those given, or the gradient's with what was chosen for the head."""
    if deltas is not None:
        if deltas.privacy.contribution != "delta":
            raise FedcallError(f"study '{deltas.name}': privacy.contribution 'delta' expected in the terms of deltas")
        return deltas
    privacy = terms.privacy.model_dump() | _DELTA_TERMS
    changes: dict[str, object] = {
        "rounds": _DELTA_ROUNDS,
        "training": {"learning_rate": _DELTA_RATE},
        "aggregation": {"server_learning_rate": _DELTA_SERVER_RATE},
    }
    return Study.model_validate({**terms.model_dump(), **changes, "privacy": privacy})


def _study(terms: Study, noise: Noise, epsilon: float, sites: int, patients: int) -> Study:
    sums = terms.rounds * terms.privacy.steps_per_round
    # One delta for all spreads: what one hospital with everybody may agree on.
    delta = min(terms.privacy.delta, _MOST_DELTA_TIMES_PATIENTS / patients)
    privacy = {**terms.privacy.model_dump(), "max_epsilon": None, "noise": noise, "delta": delta}
    changes: dict[str, object] = {"protection": {}}
    if noise == "pooled":
        privacy["steps_per_round"] = 1
        # Only noisy sums are opened, so nobody has iterates of a round to average.
        changes = {"training": terms.training.model_copy(update={"iterate_averaging": 0.0}).model_dump()}
        changes |= {"rounds": sums, "protection": {"mode": "masked", "minimum_sites": sites}}
    study = Study.model_validate({**terms.model_dump(), "sites": [], **changes, "privacy": privacy})
    multiplier = noise_multiplier_for(study.privacy, study.rounds, epsilon)
    return study.model_copy(update={"privacy": study.privacy.model_copy(update={"noise_multiplier": multiplier})})


def _f1(tensors: Mapping[str, np.ndarray], held_out: Mapping[str, Examples]) -> float:
    model = model_from_weights(Weights(dict(tensors), {}), "trained model").eval()
    right = called = there = 0
    for examples in held_out.values():
        labels = np.asarray(examples.labels)
        known = labels >= 0
        found, labels = posteriors(model, examples).argmax(1)[known], labels[known]
        right += int(((found == labels) & (labels > 0)).sum())
        called, there = called + int((found > 0).sum()), there + int((labels > 0).sum())
    return 2 * right / max(called + there, 1)
