"""A second opinion on every step of training, always on: an update that was not made as agreed never leaves.

The oracle computes the sum of clipped gradients again, by other means than training does (floating point, all trained
tensors as the model names them), and looks at what is released: released less sum must be noise of the claimed scale
and shape in every tensor of every step, unlike that of other steps, and units must be drawn as agreed. It shares no
code with clipping, summing, the noise sampler or the division by public numbers. A sound round is refused with a chance
below `noise_checks.FALSE_ALARM`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from fedcall.errors import PrivacyRefusal
from fedcall.privacy.mechanism.noise import StepContext
from fedcall.privacy.mechanism.noise_checks import NoiseChecks, check_agreement, check_draws
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.terms import TrainingTerms

_CLOSE = 1e-4
"""Between two sums of clipped gradients, in clip norms per unit and number: float32 is a hundred times as close."""
_FINE_GRID = 2**20  # points per clip norm from which on the grid does not show in float32
_HUGE = 1e15  # a norm from which on squares and products are made in float64
_REPORT = "nothing was released; do not train with this installation, and report it"


class RoundOracle:
    """Watches the steps of one round.

    Parameters
    ----------
    terms, training : PrivacyTerms, TrainingTerms
        What was agreed.
    noise_multiplier : float
        Of the sum: the terms' own, or more where adaptive clipping pays for its count.
    units : int
        Declared at the site.
    parameters : mapping of str to Parameter
        All trained tensors of the model, with `grad_sample` and `grad` where training leaves them.
    grid : int, optional
        Points per clip norm of the sum, where they are so few that they show.
    """

    def __init__(
        self,
        terms: PrivacyTerms,
        training: TrainingTerms,
        noise_multiplier: float,
        units: int,
        parameters: Mapping[str, nn.Parameter],
        grid: int | None = None,
    ) -> None:
        self._terms, self._noise, self._grid = terms, noise_multiplier, grid
        self._rate = 1.0 if terms.contribution == "delta" else training.learning_rate
        self._decay = training.iterate_averaging
        self._divisor = terms.sampling_rate * units
        self._parameters = parameters
        sizes = {name: parameter.numel() for name, parameter in parameters.items()}
        is_coarse = grid is not None and grid < _FINE_GRID
        self._points = float(grid) if grid is not None and is_coarse else None  # per clip norm
        points = self._points * noise_multiplier if self._points and noise_multiplier else None
        self._checks = NoiseChecks(terms.mechanism, sizes, terms.steps_per_round, points)
        self._sum = np.zeros(sum(sizes.values()))
        self._update = np.zeros_like(self._sum)
        self._largest = max(float(one.detach().abs().max()) for one in parameters.values())
        self._units = self._drawn_now = 0
        self._before: set[tuple[str, int]] | None = None
        self._drawn = self._could = self._same = self._compared = 0
        self._steps = 0

    def drew(self, units: Iterable[tuple[str, np.ndarray]], could: int) -> None:
        """Look at the drawn units of a step: patient and rows of each, of `could` that could have been drawn."""
        found: list[tuple[str, int]] = []
        for patient, rows in units:
            if len(rows) > (self._terms.rows_per_unit if self._terms.unit == "patient" else 1):
                raise PrivacyRefusal(f"a unit of a step has {len(rows)} rows, more than agreed; {_REPORT}")
            found.append((patient, -1 if self._terms.unit == "patient" else int(rows[0])))
        drawn = set(found)
        if len(drawn) < len(found):
            raise PrivacyRefusal(f"a {self._terms.unit} counts more than once in a step; {_REPORT}")
        self._drawn, self._could, self._drawn_now = self._drawn + len(drawn), self._could + could, len(drawn)
        if self._before is None:
            self._before = drawn
        else:  # pairs of steps: the coins of one pair are independent of those of the next
            self._same, self._compared = self._same + could - len(drawn ^ self._before), self._compared + could
            self._before = None

    def saw(self, adapted: float) -> None:
        """Add the unit gradients of a batch to the oracle's own sum, each no longer than the clip norm.

        `adapted` is the clip norm of adaptive clipping; with fixed clipping it is not trusted.
        """
        clip_norm = self._clip_norm(adapted)
        # Set by the module's hooks.
        gradients: list[Tensor] = [parameter.grad_sample.flatten(1) for parameter in self._parameters.values()]  # type: ignore[attr-defined]
        order = 2.0 if self._terms.mechanism == "gaussian" else 1.0
        norms = _row_norms(gradients, order, gradients[0].dtype)
        self._units += len(norms)
        if not bool((norms <= _HUGE).all()):  # or not a number
            norms = _row_norms(gradients, order, torch.float64)
            finite = torch.isfinite(norms)
            gradients, norms = [one[finite].double() for one in gradients], norms[finite]
        if self._units > self._drawn_now:
            raise PrivacyRefusal(
                f"step {self._steps + 1}: {self._units} contributions of {self._drawn_now} drawn {self._terms.unit}s:"
                f" one adds more than once; {_REPORT}"
            )
        factors = (clip_norm / norms.clamp(min=clip_norm)).to(gradients[0].dtype)
        if self._points is None:
            self._sum += torch.cat([factors @ one for one in gradients]).double().cpu().numpy() / clip_norm
        else:
            whole = [
                torch.trunc(one.double() * (factors.double() * self._points / clip_norm)[:, None]) for one in gradients
            ]
            self._sum += torch.cat([one.sum(0) for one in whole]).cpu().numpy() / self._points

    def check_sum(self, total: np.ndarray) -> None:
        """Refuse an exact sum, float64 in clip norms, that is not the sum of the clipped gradients that were seen."""
        wrong = np.abs(total - self._sum).max(initial=0.0)
        if not wrong <= _CLOSE * max(1, self._units):
            raise PrivacyRefusal(
                f"step {self._steps + 1}: the sum is not that of units clipped to the clip norm (off by {wrong:.3g}"
                f" clip norms); {_REPORT}"
            )

    def check_release(self, context: StepContext, adapted: float) -> None:
        """Refuse a step whose released gradient, less the sum, is not the agreed noise."""
        clip_norm = self._clip_norm(adapted)
        grads: list[Tensor] = []
        for parameter in self._parameters.values():
            assert parameter.grad is not None
            grads.append(parameter.grad.detach().flatten().double())
        released = torch.cat(grads).cpu().numpy()
        left = self._terms.steps_per_round - self._steps  # this step stays in so many iterates
        self._update -= self._rate * (1 - self._decay**left) * released
        noise = released * (self._divisor / clip_norm) - self._sum
        where = f"round {context.round}, step {context.step + 1}"
        if self._points is not None:
            noise = np.rint(noise * self._points) / self._points
        if self._noise:
            self._checks.check(where, noise / self._noise)
        elif not np.abs(noise).max(initial=0.0) <= _CLOSE * max(1, self._units):
            raise PrivacyRefusal(f"{where}: what would be released is not the sum of the units; {_REPORT}")
        self._sum = np.zeros_like(self._sum)
        self._units, self._steps = 0, self._steps + 1

    def finish(self, update: Mapping[str, np.ndarray]) -> None:
        """Refuse an update that is not made of the steps that were seen, or units that were not drawn as agreed."""
        if self._steps != self._terms.steps_per_round:
            raise PrivacyRefusal(
                f"{self._steps} of {self._terms.steps_per_round} steps were seen by the oracle; {_REPORT}"
            )
        wrong = np.abs(np.concatenate([update[name].ravel() for name in self._parameters]) - self._update).max()
        moved = np.abs(self._update).max()
        if not wrong <= 1e-3 * moved + self._steps * 2.0**-22 * (self._largest + self._steps * moved):
            raise PrivacyRefusal(f"the update is not made of the noisy steps that it should be made of; {_REPORT}")
        check_draws("this round", self._drawn, self._could, self._terms.sampling_rate)
        check_agreement("this round", self._same, self._compared, self._terms.sampling_rate)

    def check_vector(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Refuse a vector for a sum over sites that is not the noisy sum that was seen, in points of the grid."""
        assert self._grid is not None
        seen = np.concatenate([tensors[name].ravel() for name in self._parameters]).astype(np.float64)
        factor = self._rate * self._terms.clip_norm / self._grid / self._divisor
        wrong = np.abs(seen * factor - self._update).max()
        if not wrong <= 1e-3 * np.abs(self._update).max():
            raise PrivacyRefusal(f"the vector is not the noisy sum that it should be; {_REPORT}")

    def _clip_norm(self, adapted: float) -> float:
        return self._terms.clip_norm if self._terms.clipping == "fixed" else adapted


def _row_norms(gradients: Sequence[Tensor], order: float, dtype: torch.dtype) -> Tensor:
    """Return the norm of each unit over all tensors; in float32 it is right to parts in 10^6."""
    parts = torch.stack([torch.linalg.vector_norm(one, order, 1, dtype=dtype) for one in gradients])
    norms: Tensor = torch.linalg.vector_norm(parts, order, 0)
    return norms


def check_keys(noisy_sum: Callable[..., np.ndarray], terms: PrivacyTerms) -> None:
    """Refuse a noise function (`noise.noisy_sum`) that does not heed its secret, its sum, or where a step belongs.

    Asked once a round. The answers are about a secret and a context of nobody.
    """
    secret, context, zero = bytes(32), StepContext("probe", "probe", 1, 0, "probe"), np.zeros(64, np.int64)

    def noise(secret: bytes, context: StepContext, total: np.ndarray) -> bytes:
        noisy = noisy_sum(secret, context, total, terms.mechanism, 1.0)
        return bytes((noisy - total).tobytes())

    found = {
        noise(secret, context, zero),
        noise(b"\1" + secret[1:], context, zero),
        noise(secret, context, zero + 1),
        noise(secret, replace(context, study="another"), zero),
        noise(secret, replace(context, site="another"), zero),
        noise(secret, replace(context, round=2), zero),
        noise(secret, replace(context, step=1), zero),
        noise(secret, replace(context, inputs="others"), zero),
    }
    if len(found) < 8:
        raise PrivacyRefusal(f"noise does not depend on all that it must depend on; {_REPORT}")
