"""A hospital's own chemistry: the likelihood's constants fitted to its own patients, on top of the joint model.

No noise, no clipping, no epsilon: what comes out is a function of the patients' data like the data itself. It stays at
the hospital, and whatever was fitted so is marked (`fedcall.weights.STAYS`), so that no study can start from it.

Fitted are how often bases are misread and how often damaged (`FITTED`): the cross-entropy of all labelled candidates
is least, with priors that keep constants near the joint model's. Most kinds of damage a hospital has not, and one that
it has may be far off: their prior is Laplace's, the others' Gaussian. The fit is used only if it helps patients whom it
did not see: each third of the patients is judged by a fit to the other two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from fedcall.genomics.examples import Examples
from fedcall.model import chemistry
from fedcall.model import inference as network
from fedcall.model.encoding import encode
from fedcall.training.row_sampling import stratify

FOLDS = 3
FITTED = ("base_level", "base_quality", "cycle", "substitution", "orientation", "damage", "fading")
SPREAD = 0.4
"""Standard deviation of a constant around the joint model's, in units of its tensor."""
SPARSITY = 1.0
"""Nats that a unit of damage beyond the joint model's costs."""
_CORNER = 0.2
"""Units within which the cost of damage is smooth."""
LARGEST_T = 2.0
"""How many standard errors the gain of unseen patients must be above zero."""
_IS_FITTED, _IS_DAMAGE = (
    np.concatenate([np.full(int(np.prod(one.shape)), name in names) for name, one in chemistry.TENSORS.items()])
    for names in (FITTED, ("damage",))
)
_EASY_ROWS = 250
"""Reference candidates that are easy, taken of each patient; they stand for all of the patient's."""
_STEPS = 40

Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class OwnChemistry:
    """What a hospital fitted.

    Attributes
    ----------
    tensors : the whole model; the joint one, if the own chemistry did not help
    gains : nats by which each patient's loss fell under a fit that had not seen the patient
    is_used : whether the constants differ from the joint model's
    """

    tensors: dict[str, np.ndarray]
    gains: Mapping[str, float]
    is_used: bool


def fit_own_chemistry(tensors: Tensors, patients: Mapping[str, Examples]) -> OwnChemistry:
    """Fit a model's chemistry to a hospital's patients, and say whether it helps patients it has not seen.

    Parameters
    ----------
    tensors : the joint model's, whole
    patients : labelled examples by patient; with fewer than three patients nothing is fitted
    """
    kept = {name: np.array(tensor) for name, tensor in tensors.items()}
    people = {name: _rows_of(kept, patients[name]) for name in sorted(patients)}
    people = {name: rows for name, rows in people.items() if len(rows.labels)}
    if len(people) < FOLDS:
        return OwnChemistry(kept, {}, False)
    start = _joined(kept)
    names = list(people)
    gains: dict[str, float] = {}
    for fold in range(FOLDS):
        left_out = names[fold::FOLDS]
        fitted = _fit(start, [people[name] for name in names if name not in left_out])
        for name in left_out:
            gains[name] = _loss(start, people[name])[0] - _loss(fitted, people[name])[0]
    if not _is_sure(list(gains.values())):
        return OwnChemistry(kept, gains, False)
    fitted = _fit(start, list(people.values()))
    parts = chemistry.joined_parts(fitted[None])
    changed = {chemistry.PREFIX + name: part[0].astype(np.float32) for name, part in parts.items()}
    return OwnChemistry(kept | changed, gains, True)


@dataclass(frozen=True)
class _Rows:
    """A patient's labelled candidates, n rows; `given` are log posteriors with what network and head add to them."""

    observed: np.ndarray
    given: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


def _rows_of(tensors: Tensors, examples: Examples) -> _Rows:
    strata = stratify(examples)
    step = max(1, -(-len(strata.easy) // _EASY_ROWS))
    easy = strata.easy[::step]
    rows = np.sort(np.concatenate([strata.hard, easy]))
    labels = np.asarray(examples.labels)[rows].astype(np.int64)
    weights = np.where(np.isin(rows, easy), float(step), 1.0) * np.where(labels > 0, strata.variant_weight, 1.0)
    observed, given = chemistry.observed(examples, rows), encode(examples, rows)[2].astype(np.float64)
    if tensors["head.weight"].any() or tensors["head.bias"].any():
        called = np.log(np.maximum(network.posteriors(tensors, examples)[rows].astype(np.float64), 1e-12))
        learned = chemistry.chemistry_of(tensors)
        given = called if learned is None else called - chemistry.change(observed, learned)
    return _Rows(observed, given, labels, weights)


def _fit(start: np.ndarray, people: Sequence[_Rows]) -> np.ndarray:
    """Return the most probable constants, float64, in units of the tensors."""

    def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
        total, slopes = _prior(values - start)
        for rows in people:
            loss, slope = _loss(values, rows, with_slope=True)
            total += loss
            slopes = slopes + slope
        return total, slopes * _IS_FITTED

    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS})
    return np.asarray(found.x, np.float64)


def _prior(away: np.ndarray) -> tuple[float, np.ndarray]:
    """Return what it costs to leave the joint model's constants, in nats, and its gradient."""
    root = np.sqrt(away**2 + _CORNER**2)
    costs = np.where(_IS_DAMAGE, SPARSITY * (root - _CORNER), 0.5 * (away / SPREAD) ** 2)
    return float(costs.sum()), np.where(_IS_DAMAGE, SPARSITY * away / root, away / SPREAD**2)


def _loss(values: np.ndarray, rows: _Rows, with_slope: bool = False) -> tuple[float, np.ndarray]:
    """Return a patient's cross-entropy in nats, and its gradient (zeros, if it is not asked for)."""
    constants = chemistry.constants_of(chemistry.joined_parts(values[None]))
    joint = rows.given + chemistry.change(rows.observed, constants)
    joint -= joint.max(1, keepdims=True)
    joint -= np.log(np.exp(joint).sum(1, keepdims=True))
    right = np.arange(len(rows.labels)), rows.labels
    loss = -float((joint[right] * rows.weights).sum())
    if not with_slope:
        return loss, np.zeros_like(values)
    slopes = np.exp(joint)
    slopes[right] -= 1.0
    return loss, chemistry.change_gradients(rows.observed, constants, slopes * rows.weights[:, None], 1)[0]


def _joined(tensors: Tensors) -> np.ndarray:
    return np.concatenate([tensors[chemistry.PREFIX + name].astype(np.float64).ravel() for name in chemistry.TENSORS])


def _is_sure(gains: Sequence[float]) -> bool:
    """Return whether patients that a fit did not see gain, beyond chance."""
    found = np.array(gains)
    error = found.std(ddof=1) / np.sqrt(len(found))
    return bool(found.mean() > LARGEST_T * error)
