"""The units of a step: who is drawn, which rows of each, and how they lie in a batch."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedcall.genomics.examples import FEATURES, WINDOW, Examples
from fedcall.model.chemistry import FRAGMENTS, observed
from fedcall.model.encoding import INPUT_CHANNELS, encode
from fedcall.privacy.mechanism.noise import StepContext
from fedcall.privacy.mechanism.sampling import sample_examples, sample_patients
from fedcall.privacy.terms import PrivacyTerms
from fedcall.training.row_sampling import Rows, draw_rows, label_weights


@dataclass(frozen=True)
class DrawnUnit:
    """One drawn unit of a step: rows of one patient, and what the loss of each counts."""

    patient: str
    rows: np.ndarray
    weights: np.ndarray


def rows_of_a_unit(terms: PrivacyTerms) -> int:
    """Return how many rows a unit has in a batch."""
    return terms.rows_per_unit if terms.unit == "patient" else 1


def draw_units(secret: bytes, context: StepContext, strata: Mapping[str, Rows], terms: PrivacyTerms) -> list[DrawnUnit]:
    """Draw the units of one step (Poisson), and the rows of each; units without a labelled row are left out."""
    names = list(strata)
    units = []
    if terms.unit == "patient":
        drawn = sample_patients(secret, context, names, terms.sampling_rate)
        for name in (name for name, taken in zip(names, drawn, strict=True) if taken):
            rows, weights = draw_rows(secret, context, name, strata[name], terms.rows_per_unit)
            if len(rows):
                units.append(DrawnUnit(name, rows, weights))
        return units
    for name in names:
        labelled = strata[name].labelled
        rows = labelled[sample_examples(secret, context, name, len(labelled), terms.sampling_rate)]
        # The constant weight: a weight from the patient's other rows would let one example move many.
        weights = label_weights(strata[name].examples.labels[rows]).astype(np.float32)
        units.extend(DrawnUnit(name, rows[i : i + 1], weights[i : i + 1]) for i in range(len(rows)))
    return units


def draw_local_steps(
    secret: bytes, context: StepContext, strata: Mapping[str, Rows], units: Sequence[DrawnUnit], terms: PrivacyTerms
) -> list[list[DrawnUnit]]:
    """Draw the rows of each local step of drawn patients: `local_steps` lists of units; the first is `units`."""
    steps = [list(units)]
    for step in range(1, terms.local_steps or 1):
        there = dataclasses.replace(context, step=step)
        drawn = (draw_rows(secret, there, unit.patient, strata[unit.patient], terms.rows_per_unit) for unit in units)
        steps.append([DrawnUnit(unit.patient, *chosen) for unit, chosen in zip(units, drawn, strict=True)])
    return steps


def collate(
    units: Sequence[DrawnUnit],
    patients: Mapping[str, Examples],
    rows: int,
    size: int,
    device: str,
    with_reads: bool = False,
) -> tuple[Tensor, ...]:
    """Encode units into a batch of exactly size · rows rows; what is not used is zero and has weight zero.

    Returns windows, features, log posteriors, labels, weights; `with_reads` what fragments show as well, for a model
    whose chemistry wants it (`Chemistry.is_needed`).
    """
    total = size * rows
    windows = np.zeros((total, INPUT_CHANNELS, WINDOW), np.float32)
    features = np.zeros((total, len(FEATURES)), np.float32)
    log_posteriors = np.zeros((total, 3), np.float32)
    labels, weights = np.zeros(total, np.int64), np.zeros(total, np.float32)
    seen = []
    for patient, places, taken, weight in _by_patient(units, rows):
        windows[places], features[places], log_posteriors[places] = encode(patients[patient], taken)
        labels[places], weights[places] = patients[patient].labels[taken], weight
        if with_reads:
            seen.append((places, observed(patients[patient], taken)))
    arrays: list[np.ndarray] = [windows, features, log_posteriors, labels, weights]
    if with_reads:
        fragments = np.full((total, max((found.shape[1] for _, found in seen), default=FRAGMENTS)), -1, np.int32)
        fragments[:, :FRAGMENTS] = 0
        for places, found in seen:
            fragments[places, : found.shape[1]] = found
        arrays.append(fragments)
    return tuple(torch.from_numpy(array).to(device) for array in arrays)


def _by_patient(units: Sequence[DrawnUnit], rows: int) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield patient, places in the batch, rows of the patient and weights: one item per patient, to encode at once."""
    for patient in dict.fromkeys(unit.patient for unit in units):
        own = [(place, unit) for place, unit in enumerate(units) if unit.patient == patient]
        places = np.concatenate([place * rows + np.arange(len(unit.rows)) for place, unit in own])
        yield (
            patient,
            places,
            np.concatenate([unit.rows for _, unit in own]),
            np.concatenate([unit.weights for _, unit in own]),
        )
