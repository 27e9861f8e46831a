"""Points of accuracy against epsilon that nobody trained, for tests of the page."""

import numpy as np

from fedcall.experiments.utility_documents import PersonScore, UtilityPoint

PIECES = 5


def made_scores(seed: int, quality: float, people: int = 4, indels: bool = True) -> tuple[PersonScore, ...]:
    """Return scores whose shares of right variants are about `quality`."""
    return tuple(
        PersonScore(
            patient=f"p{number}",
            regions_digest="0" * 64,
            snps=_counts(np.random.default_rng([seed, number, 1]), quality),
            indels=_counts(np.random.default_rng([seed, number, 2]), quality) if indels else None,
            rare=(6, int(np.random.default_rng([seed, number, 3]).binomial(6, quality))),
        )
        for number in range(people)
    )


def made_point(
    study: str, noise: float, seed: int = 1, quality: float = 0.8, own: bool = False, indels: bool = True, **changed
) -> UtilityPoint:
    """Return a point; epsilon falls with the noise."""
    content = {
        "study": study,
        "unit": "patient",
        "mechanism": "gaussian",
        "clipping": "fixed",
        "rounds": 3,
        "delta": 1e-3,
        "noise_multiplier": noise,
        "epsilon": 6.004 / noise if noise else None,
        "asked": None,
        "is_own": own,
        "seed": seed,
        "patients": {"north": 5, "south": 6},
        "rare_copies": 2,
        "trained": made_scores(seed + int(100 * noise), quality, indels=indels),
        "start": made_scores(900, 0.6, indels=indels),
        "likelihood": made_scores(901, 0.5, indels=indels),
    }
    return UtilityPoint.model_validate(content | changed)


def made_sweep(indels: bool = True) -> list[UtilityPoint]:
    """Return two studies at four epsilons each, two seeds, one of them with noise of its own."""
    points = []
    for study, unit, clipping in (("by-patient", "patient", "fixed"), ("by-example", "example", "adaptive")):
        for noise, quality in ((6.0, 0.7), (2.0, 0.8), (0.75, 0.82), (0.0, 0.83)):
            own = noise == 2.0 and study == "by-patient"
            points += [
                made_point(study, noise, seed, quality, own, indels, unit=unit, clipping=clipping) for seed in (1, 2)
            ]
    return points


def _counts(generator: np.random.Generator, quality: float) -> tuple[tuple[int, int, int, int], ...]:
    truth = generator.integers(3, 20, PIECES)
    found = generator.binomial(truth, quality)
    called = found + generator.binomial(truth, 1 - quality)
    return tuple((int(t), int(f), int(c), int(f)) for t, f, c in zip(truth, found, called, strict=True))
