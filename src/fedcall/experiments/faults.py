"""Faults planted on purpose, to show that the audit would see them. They live in this process and only while asked for.

Each replaces one name of `training.dp_sgd` by a wrong version, as a bug there would; the code that trains studies knows
nothing of them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np

from fedcall.experiments.one_run import SceneName
from fedcall.privacy.mechanism.noise import noisy_sum
from fedcall.training import dp_sgd
from fedcall.training.dp_sgd import Unit


@contextmanager
def half_noise() -> Iterator[None]:
    """Add noise of half the agreed scale."""
    with patch.object(dp_sgd, "noisy_sum", _scaled_noise(0.5)):
        yield


@contextmanager
def no_noise() -> Iterator[None]:
    """Add no noise."""
    with patch.object(dp_sgd, "noisy_sum", _scaled_noise(0.0)):
        yield


@contextmanager
def clip_per_example() -> Iterator[None]:
    """Clip each row of a patient by itself, so that a patient counts as many times as it has rows."""
    draw = dp_sgd.draw_units

    def rows_as_units(*arguments: Any) -> list[Unit]:
        units: Sequence[Unit] = draw(*arguments)
        return [
            Unit(unit.patient, unit.rows[i : i + 1], unit.weights[i : i + 1])
            for unit in units
            for i in range(len(unit.rows))
        ]

    with patch.object(dp_sgd, "draw_units", rows_as_units), patch.object(dp_sgd, "rows_of_a_unit", lambda terms: 1):
        yield


@contextmanager
def divide_by_drawn_batch() -> Iterator[None]:
    """Divide by the number of units that were drawn instead of the declared one."""
    step = dp_sgd.private_step

    def divided(model: Any, optimizer: Any, units: Sequence[Unit], *rest: Any) -> None:
        optimizer.expected_batch_size = max(1, len(units))
        step(model, optimizer, units, *rest)

    with patch.object(dp_sgd, "private_step", divided):
        yield


@contextmanager
def no_subsampling() -> Iterator[None]:
    """Let every unit take part in every step."""

    def all_patients(secret: bytes, context: Any, patients: Sequence[str], rate: float) -> np.ndarray:
        return np.ones(len(patients), bool)

    def all_examples(secret: bytes, context: Any, patient: str, examples: int, rate: float) -> np.ndarray:
        return np.ones(examples, bool)

    with (
        patch.object(dp_sgd, "sample_patients", all_patients),
        patch.object(dp_sgd, "sample_examples", all_examples),
    ):
        yield


def _scaled_noise(factor: float) -> Callable[..., np.ndarray]:
    original = noisy_sum

    def scaled(secret: bytes, context: Any, total: np.ndarray, mechanism: Any, scale: Any, *rest: Any) -> np.ndarray:
        return original(secret, context, total, mechanism, factor * scale, *rest)

    return scaled


@dataclass(frozen=True)
class Fault:
    """A fault, and the scene of the audit that must show it."""

    plant: Callable[[], AbstractContextManager[None]]
    scene: SceneName
    only_patients: bool = False  # no fault where the unit is one example


FAULTS = {
    "half the noise": Fault(half_noise, "crowd"),
    "no noise": Fault(no_noise, "crowd"),
    "clipping per example": Fault(clip_per_example, "crowd", only_patients=True),
    "division by the drawn batch": Fault(divide_by_drawn_batch, "alone"),
    "no subsampling": Fault(no_subsampling, "sampled"),
}
"""What `fedcall audit --self-check` plants."""
