"""Faults planted on purpose, to show that the audit would see them. They live in this process and only while asked for.

Each replaces one name of `training.dp_sgd` by a wrong version, as a bug there would; the code that trains studies knows
nothing of them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal
from unittest.mock import patch

import numpy as np

from fedcall.experiments.one_run import SceneName
from fedcall.model.caller import build_model
from fedcall.model.unit_copies import UnitCopies
from fedcall.privacy.mechanism.clipping import GRID, Norm, grid_sum, row_norms
from fedcall.privacy.mechanism.noise import StepContext, noisy_sum
from fedcall.privacy.mechanism.pooling import share_multiplier
from fedcall.privacy.mechanism.sampling import sample_examples, sample_patients
from fedcall.privacy.terms import PrivacyTerms
from fedcall.training import dp_sgd, units
from fedcall.training.oracle import RoundOracle
from fedcall.training.units import DrawnUnit


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
    draw = units.draw_units

    def rows_as_units(*arguments: Any) -> list[DrawnUnit]:
        units: Sequence[DrawnUnit] = draw(*arguments)
        return [
            DrawnUnit(unit.patient, unit.rows[i : i + 1], unit.weights[i : i + 1])
            for unit in units
            for i in range(len(unit.rows))
        ]

    with patch.object(dp_sgd, "draw_units", rows_as_units), patch.object(dp_sgd, "rows_of_a_unit", lambda terms: 1):
        yield


@contextmanager
def divide_by_drawn_batch() -> Iterator[None]:
    """Divide by the number of units that were drawn instead of the declared one."""
    step, of_deltas = dp_sgd.private_step, dp_sgd.delta_step

    def divided(model: Any, optimizer: Any, units: Sequence[DrawnUnit], *rest: Any) -> None:
        optimizer.expected_batch_size = max(1, len(units))
        step(model, optimizer, units, *rest)

    def divided_deltas(model: Any, optimizer: Any, local_steps: Sequence[Sequence[DrawnUnit]], *rest: Any) -> None:
        optimizer.expected_batch_size = max(1, len(local_steps[0]))
        of_deltas(model, optimizer, local_steps, *rest)

    with patch.object(dp_sgd, "private_step", divided), patch.object(dp_sgd, "delta_step", divided_deltas):
        yield


@contextmanager
def no_subsampling() -> Iterator[None]:
    """Let every unit take part in every step."""

    def all_patients(secret: bytes, context: Any, patients: Sequence[str], rate: float) -> np.ndarray:
        return np.ones(len(patients), bool)

    def all_examples(secret: bytes, context: Any, patient: str, examples: int, rate: float) -> np.ndarray:
        return np.ones(examples, bool)

    with (
        patch.object(units, "sample_patients", all_patients),
        patch.object(units, "sample_examples", all_examples),
    ):
        yield


@contextmanager
def noise_on_the_head_only() -> Iterator[None]:
    """Add noise to the last layer alone, or to the last half of fewer numbers."""

    def changed(noise: np.ndarray, context: Any) -> np.ndarray:
        noise[: -_last_numbers(len(noise))] = 0
        return noise

    with _noise_changed(changed):
        yield


@contextmanager
def norm_of_the_head_only() -> Iterator[None]:
    """Clip by the norm of the last layer's gradient, and scale all layers by that."""

    def summed(gradients: np.ndarray, clip_norm: float, norm: Norm = "l2", grid: int = GRID) -> np.ndarray:
        norms = row_norms(gradients[:, -_last_numbers(gradients.shape[1]) :].astype(np.float64), norm)
        scaled = gradients * (grid / np.maximum(norms, clip_norm))[:, None]
        total: np.ndarray = np.trunc(scaled).sum(axis=0).astype(np.int64)
        return total

    with patch.object(dp_sgd, "grid_sum", summed):
        yield


@contextmanager
def every_second_step_bare() -> Iterator[None]:
    """Add no noise in every second step."""
    with _noise_changed(lambda noise, context: noise * (context.step % 2 == 0)):
        yield


@contextmanager
def sampling_rate_doubled() -> Iterator[None]:
    """Draw units twice as often as agreed."""

    def more_patients(secret: bytes, context: Any, names: Sequence[str], rate: float) -> np.ndarray:
        return sample_patients(secret, context, names, min(1.0, 2 * rate))

    def more_examples(secret: bytes, context: Any, patient: str, count: int, rate: float) -> np.ndarray:
        return sample_examples(secret, context, patient, count, min(1.0, 2 * rate))

    with (
        patch.object(units, "sample_patients", more_patients),
        patch.object(units, "sample_examples", more_examples),
    ):
        yield


@contextmanager
def same_noise_in_all_steps() -> Iterator[None]:
    """Draw noise once, and add it in every step."""

    def noisy(secret: bytes, context: Any, total: np.ndarray, *rest: Any) -> np.ndarray:
        noisy: np.ndarray = total + noisy_sum(secret, replace(context, step=0), np.zeros_like(total), *rest)
        return noisy

    with patch.object(dp_sgd, "noisy_sum", noisy):
        yield


@contextmanager
def no_noise_from_round_two_on() -> Iterator[None]:
    """Add noise in the first round only."""
    with _noise_changed(lambda noise, context: noise * (context.round < 2)):
        yield


@contextmanager
def noise_of_one_sign() -> Iterator[None]:
    """Add the size of the noise and lose its sign; its scale stays what it should be."""
    with _noise_changed(lambda noise, context: np.abs(noise)):
        yield


@contextmanager
def noise_repeated() -> Iterator[None]:
    """Draw noise for one layer, or for a quarter of all numbers if that is less, and repeat it in all others."""
    drawn = _head_numbers()
    with _noise_changed(lambda noise, context: np.resize(noise[: min(drawn, len(noise) // 4)], noise.shape)):
        yield


@contextmanager
def secret_ignored() -> Iterator[None]:
    """Key the noise with zeros, so that everybody can take it away."""

    def noisy(secret: bytes, *rest: Any) -> np.ndarray:
        return noisy_sum(bytes(len(secret)), *rest)

    with patch.object(dp_sgd, "noisy_sum", noisy):
        yield


@contextmanager
def sum_kept_between_steps() -> Iterator[None]:
    """Begin a step with the sum of the steps before."""
    add_noise = dp_sgd.UnitDPOptimizer.add_noise

    def keep(optimizer: Any) -> None:
        total = optimizer._total.copy()
        add_noise(optimizer)
        optimizer._total = total

    with patch.object(dp_sgd.UnitDPOptimizer, "add_noise", keep):
        yield


@contextmanager
def clip_after_averaging() -> Iterator[None]:
    """Clip the mean gradient of a batch, as for plain SGD, instead of each unit's."""

    def summed(gradients: np.ndarray, clip_norm: float, norm: Norm = "l2", grid: int = GRID) -> np.ndarray:
        if not len(gradients):
            return grid_sum(gradients, clip_norm, norm, grid)
        return len(gradients) * grid_sum(gradients.mean(axis=0, keepdims=True), clip_norm, norm, grid)

    with patch.object(dp_sgd, "grid_sum", summed):
        yield


@contextmanager
def same_draw_in_all_steps() -> Iterator[None]:
    """Draw the units of a round once."""
    draw = units.draw_units

    def drawn(secret: bytes, context: Any, *rest: Any) -> list[DrawnUnit]:
        return draw(secret, replace(context, step=0), *rest)

    with patch.object(dp_sgd, "draw_units", drawn):
        yield


@contextmanager
def clip_per_local_step() -> Iterator[None]:
    """Clip and add what a patient moves by in each local step, instead of its delta."""

    def added(copies: Any, optimizer: Any, batches: Sequence[Any], units: int, rate: float) -> None:
        copies.start()
        before = {p: delta.clone() for p, delta in copies.deltas.items()}
        for batch in batches:
            copies.step(dp_sgd.unit_losses(copies, batch), rate)
            for p in optimizer.params:
                p.grad_sample = (before[p] - copies.deltas[p])[:units]
            before = {p: delta.clone() for p, delta in copies.deltas.items()}
            dp_sgd._add_to_sum(optimizer)

    with patch.object(dp_sgd, "accumulate_deltas", added):
        yield


@contextmanager
def patients_one_after_the_other() -> Iterator[None]:
    """Let every patient's local steps begin where those of the batch before ended."""
    with patch.object(UnitCopies, "start", _start_once):
        yield


@contextmanager
def shares_of_all_sites() -> Iterator[None]:
    """Size a site's share of the noise for twice as many sites as are counted on."""
    with patch.object(dp_sgd, "share_multiplier", lambda noise, shares: share_multiplier(noise, 2 * shares)):
        yield


def _start_once(copies: Any) -> None:
    if not hasattr(copies, "deltas"):
        _start(copies)


_start = UnitCopies.start


class _Blind(RoundOracle):
    """An oracle that looks at nothing."""

    def drew(self, units: Iterable[tuple[str, np.ndarray]], could: int) -> None:
        """Look away."""

    def saw(self, adapted: float) -> None:
        """Look away."""

    def check_sum(self, total: np.ndarray) -> None:
        """Look away."""

    def check_release(self, context: StepContext, adapted: float) -> None:
        """Look away."""

    def finish(self, update: Mapping[str, np.ndarray]) -> None:
        """Look away."""

    def check_vector(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Look away."""


@contextmanager
def unwatched() -> Iterator[None]:
    """Train without the oracle, which would refuse a faulty round before anything else could show the fault."""
    blind = patch.multiple(
        dp_sgd, RoundOracle=_Blind, check_keys=lambda *arguments: None, check_delta=lambda *arguments: None
    )
    with blind:
        yield


def _head_numbers() -> int:
    return sum(parameter.numel() for parameter in build_model().head.parameters())


def _last_numbers(trained: int) -> int:
    """Return how many numbers the last layer has; where fewer are trained (chemistry alone), the last half of them."""
    return min(_head_numbers(), trained // 2)


def _noise_changed(change: Callable[[np.ndarray, Any], np.ndarray]) -> AbstractContextManager[Any]:
    def noisy(secret: bytes, context: Any, total: np.ndarray, *rest: Any) -> np.ndarray:
        changed: np.ndarray = total + change(noisy_sum(secret, context, total, *rest) - total, context)
        return changed

    return patch.object(dp_sgd, "noisy_sum", noisy)


def _scaled_noise(factor: float) -> Callable[..., np.ndarray]:
    def scaled(secret: bytes, context: Any, total: np.ndarray, mechanism: Any, scale: Any, *rest: Any) -> np.ndarray:
        return noisy_sum(secret, context, total, mechanism, factor * scale, *rest)

    return scaled


@dataclass(frozen=True)
class PlantedFault:
    """A fault, and the scenes of the audit that must show it.

    Attributes
    ----------
    scene : the scene in which guesses, measurement or releases must show it with the oracle switched off; None if only
        the oracle shows it, which must show every fault
    """

    plant: Callable[[], AbstractContextManager[None]]
    scene: SceneName | Literal["rounds"] | None = None
    only_patients: bool = False  # no fault where the unit is one example
    only: Literal["gradient", "delta", "pooled"] | None = None  # no fault with another contribution or noise

    def is_possible(self, terms: PrivacyTerms) -> bool:
        """Say whether the fault is one in training under these terms."""
        if self.only is not None and self.only not in (terms.contribution, terms.noise):
            return False
        return not (self.only_patients and terms.unit == "example")


FAULTS = {
    "half the noise": PlantedFault(half_noise, "crowd"),
    "no noise": PlantedFault(no_noise, "crowd"),
    "clipping per example": PlantedFault(clip_per_example, "crowd", only_patients=True),
    "division by the drawn batch": PlantedFault(divide_by_drawn_batch, "alone"),
    "no subsampling": PlantedFault(no_subsampling, "sampled"),
    "noise on the head only": PlantedFault(noise_on_the_head_only, "rounds"),
    "norm of the head only": PlantedFault(norm_of_the_head_only),
    "every second step bare": PlantedFault(every_second_step_bare, "rounds", only="gradient"),
    "sampling rate doubled": PlantedFault(sampling_rate_doubled),
    "same noise in all steps": PlantedFault(same_noise_in_all_steps, "rounds", only="gradient"),
    "no noise from round 2 on": PlantedFault(no_noise_from_round_two_on, "rounds"),
    "noise of one sign": PlantedFault(noise_of_one_sign, "rounds"),
    "noise repeated": PlantedFault(noise_repeated, "rounds"),
    "secret ignored": PlantedFault(secret_ignored),
    "sum kept between steps": PlantedFault(sum_kept_between_steps, only="gradient"),
    "clipping after averaging": PlantedFault(clip_after_averaging),
    "same draw in all steps": PlantedFault(same_draw_in_all_steps, only="gradient"),
    "clipping per local step": PlantedFault(clip_per_local_step, only="delta"),
    "patients one after the other": PlantedFault(patients_one_after_the_other, only="delta"),
    "shares for twice the sites": PlantedFault(shares_of_all_sites, only="pooled"),
}
"""What `fedcall audit --self-check` plants: five that its scenes show by guesses and measurement alone, the six of the
first hostile reading, six of a tired developer's, and three that only deltas or pooled noise can have. Six of those
twelve show in the releases of several steps and rounds, too; the others to the oracle alone, because a release hides
sums, draws and keys."""
