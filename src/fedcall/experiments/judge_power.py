"""How many held-out patients the private judge needs to see a gain, by simulation with the spread of real people."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from fedcall.errors import FedcallError
from fedcall.genomics.concordance.comparison import read_concordance
from fedcall.privacy.bisection import least, most
from fedcall.privacy.mechanism.clipping import GRID
from fedcall.study.evaluation import EvaluationTerms
from fedcall.study.gain import estimate_gain
from fedcall.study.judgement import JudgedSite, judge_event

MOST_PEOPLE = 100_000
_DRAWS = 4_000
_BATCH = 2_000_000  # values drawn at a time


@dataclass(frozen=True)
class Question:
    """A gain to be seen.

    `differences`: differences of F1 of real people, moved so that their mean is `gain`; or, if there are none, people
    spread normally with standard deviation `spread`.
    """

    gain: float
    spread: float
    sites: int
    differences: tuple[float, ...] = ()
    power: float = 0.8


class PowerRow(BaseModel):
    """What it takes at one epsilon and clip."""

    epsilon: float
    clip: float
    people: int | None  # over all sites; null: not even 100,000 are enough, or the clip hides the gain
    half_width: float | None  # of the interval with so many


def power_rows(question: Question, epsilons: Sequence[float], clips: Sequence[float]) -> list[PowerRow]:
    """Return the least numbers of held-out patients with which the gain is seen with the wanted chance."""
    return [_row(question, EvaluationTerms(epsilon=epsilon, clip=clip)) for epsilon in epsilons for clip in clips]


def chance_to_see(question: Question, terms: EvaluationTerms, people: int) -> float:
    """Return the chance that the interval lies above zero with so many held-out patients at each site."""
    threshold = _threshold(terms, people, question.sites)
    if threshold is None:
        return 0.0
    random = np.random.default_rng(1)
    event, total = judge_event(terms), people * question.sites
    draws = max(200, min(_DRAWS, _BATCH // total))
    means = _people(question, random, (draws, total)).clip(-terms.clip, terms.clip).mean(axis=1)
    shape = (draws, question.sites)
    noise = random.laplace(size=shape) if event.mechanism == "laplace" else random.normal(size=shape)
    seen = means + noise.sum(axis=1) * event.noise_multiplier * terms.clip / total
    return float(np.mean(seen > threshold))


def paired_differences(before: Sequence[Path], after: Sequence[Path]) -> tuple[float, ...]:
    """Return real people's differences of F1 from two concordances each, named after the person; () without any.

    Raises
    ------
    FedcallError
        If a person has one concordance only.
    """
    found = [{path.stem: read_concordance(path).all.f1 for path in map(Path, paths)} for paths in (before, after)]
    for name in sorted(set(found[0]) ^ set(found[1])):
        raise FedcallError(f"'{name}': give the concordances of both models")
    pairs = [(found[0][name], found[1][name]) for name in sorted(found[0])]
    return tuple(later - earlier for earlier, later in pairs if earlier is not None and later is not None)


def as_text(question: Question, rows: Sequence[PowerRow]) -> str:
    """Return the rows as a table."""
    who = (
        f"spread as {len(question.differences)} real people"
        if question.differences
        else f"standard deviation {question.spread:g} between people"
    )
    lines = [
        f"to see a gain of {question.gain:g} in F1 with {question.power:.0%} chance, at {question.sites} sites, {who}",
        f"{'epsilon':>8}{'clip':>8}{'held-out patients':>20}{'±':>9}",
    ]
    for row in rows:
        people = f"> {MOST_PEOPLE:,}" if row.people is None else f"{row.people:,}"
        width = "–" if row.half_width is None else f"{row.half_width:.4f}"
        lines.append(f"{row.epsilon:>8g}{row.clip:>8g}{people:>20}{width:>9}")
    return "\n".join(lines)


def _row(question: Question, terms: EvaluationTerms) -> PowerRow:
    def sees(people: int) -> bool:
        return chance_to_see(question, terms, people) >= question.power

    assert terms.epsilon is not None
    each = 1 + most(lambda people: not sees(people), MOST_PEOPLE // question.sites)
    if each > MOST_PEOPLE // question.sites:
        return PowerRow(epsilon=terms.epsilon, clip=terms.clip, people=None, half_width=None)
    gain = estimate_gain(terms, _judged(terms, question.gain, each, question.sites))
    width = None if gain is None else gain.half_width
    return PowerRow(epsilon=terms.epsilon, clip=terms.clip, people=each * question.sites, half_width=width)


def _threshold(terms: EvaluationTerms, people: int, sites: int) -> float | None:
    """Return the smallest mean whose interval lies above zero; None if none within the clip does."""

    def is_seen(mean: float) -> bool:
        gain = estimate_gain(terms, _judged(terms, mean, people, sites))
        return gain is not None and gain.low > 0

    highest = 4 * terms.clip
    return least(is_seen, 0.0, highest, highest / 2**14) if is_seen(highest) else None


def _judged(terms: EvaluationTerms, mean: float, people: int, sites: int) -> list[JudgedSite]:
    total = round(mean * people / terms.clip * GRID)
    return [JudgedSite(site=f"site{number}", people=people, total=total) for number in range(sites)]


def _people(question: Question, random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    if not question.differences:
        return random.normal(question.gain, question.spread, shape)
    real = np.array(question.differences)
    return random.choice(real - real.mean() + question.gain, shape)
