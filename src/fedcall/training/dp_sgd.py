"""Differentially private SGD: clipped unit gradients, summed exactly, hidden by keyed noise, divided by public numbers.

Results are equal, bit for bit, when training is repeated on the same processor with the same versions: one thread,
batches of a fixed shape, integer sums. They are not promised across processors; the ledger returns the stored artefact.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn
from torch.nn import functional

from fedcall.genomics.examples import Examples
from fedcall.model.caller import VariantCaller, freeze, single_threaded
from fedcall.model.grad_samplers import UnitGradSampleModule
from fedcall.model.unit_copies import UnitCopies
from fedcall.model.unit_gradients import CallerGradSampleModule
from fedcall.privacy.mechanism.adaptive_clipping import (
    ClipTrace,
    count_multiplier,
    next_clip_norm,
    noisy_share,
    sum_multiplier,
)
from fedcall.privacy.mechanism.clipping import GRID, from_grid, grid_sum, norm_of, row_norms
from fedcall.privacy.mechanism.noise import StepContext, keyed_digest, noisy_sum
from fedcall.privacy.mechanism.pooling import SUM_GRID, Share, share_multiplier
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.sums import to_modulo
from fedcall.study.terms import Study
from fedcall.training.delta_oracle import check_delta
from fedcall.training.oracle import RoundOracle, check_keys
from fedcall.training.row_sampling import stratify
from fedcall.training.units import DrawnUnit, collate, draw_local_steps, draw_units, rows_of_a_unit

BATCH_ROWS = 256
"""Rows computed at once, about; whole units. Small, because an incomplete batch is padded to its full shape."""


class UnitDPOptimizer(DPOptimizer):  # type: ignore[misc]  # Opacus has no types
    """Opacus' DPOptimizer with unit-level clipping on an integer grid and keyed noise.

    Before each noisy step, `context` must be set: it keys the noise. With adaptive clipping, `clip_norm` is where it
    starts (default: the terms' own), and `shares` grows by one noisy share a step. `share` says what noise is added and
    on which grid, where that is not all of the terms' noise on the finest; `released` is the last noisy sum on it.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        terms: PrivacyTerms,
        units: int,
        secret: bytes,
        clip_norm: float | None = None,
        share: Share | None = None,
    ) -> None:
        share = share or Share(sum_multiplier(terms, units))
        super().__init__(
            optimizer,
            noise_multiplier=share.noise_multiplier,
            max_grad_norm=clip_norm or terms.clip_norm,
            expected_batch_size=terms.sampling_rate * units,  # public numbers, never the drawn batch
        )
        self.max_grad_norm: float
        self.mechanism = terms.mechanism
        self.context: StepContext | None = None
        self.shares: list[float] = []
        self.oracle: RoundOracle | None = None
        self.released = np.empty(0, np.int64)
        self._terms, self._units, self._secret, self._grid = terms, units, secret, share.grid
        self._total = np.zeros(sum(parameter.numel() for parameter in self.params), np.int64)
        self._shorter = 0  # units below the clip norm less units above it, in grid points

    def clip_and_accumulate(self) -> None:
        """Clip the gradient of each unit and add them to the exact sum of the step."""
        gradients = torch.cat([parameter.grad_sample.flatten(1) for parameter in self.params], 1).cpu().numpy()
        norm = norm_of(self.mechanism)
        self._total += grid_sum(gradients, self.max_grad_norm, norm, self._grid)
        if self._terms.clipping == "adaptive":
            with np.errstate(over="ignore", invalid="ignore"):
                shorter = int(np.count_nonzero(row_norms(gradients.astype(np.float64), norm) <= self.max_grad_norm))
            self._shorter += GRID * (2 * shorter - len(gradients))

    @property
    def exact_sum(self) -> np.ndarray:
        """The sum of the step so far, before noise, in clip norms: float64, shape (parameters,). Never released."""
        return from_grid(self._total, 1.0, self._grid)

    def add_noise(self) -> None:
        """Set `grad` of all parameters to the noisy sum of the step, and begin the next sum."""
        if self.context is None:
            raise RuntimeError("a noisy step needs a context; noise keys are never used twice")
        if self._terms.clipping == "fixed":
            scale = self.noise_multiplier
            noisy = noisy_sum(self._secret, self.context, self._total, self.mechanism, scale, 1.0, self._grid)
        else:
            noisy = self._noisy_sum_and_share(self.context)
        self.context, self.released = None, noisy
        self._total = np.zeros_like(self._total)
        values = torch.from_numpy(from_grid(noisy, self.max_grad_norm, self._grid))
        if self._terms.clipping == "adaptive":
            self.max_grad_norm = next_clip_norm(self._terms, self.max_grad_norm, self.shares[-1])
        for parameter, part in zip(self.params, values.split([p.numel() for p in self.params]), strict=True):
            parameter.grad = part.view_as(parameter).to(parameter)

    def _noisy_sum_and_share(self, context: StepContext) -> np.ndarray:
        """Release sum and count as one vector, whose noise is bound to both and to the clip norm."""
        both = np.append(self._total, np.int64(self._shorter))
        scales = np.full(len(both), self.noise_multiplier)
        scales[-1] = count_multiplier(self._terms, self._units)
        noisy = noisy_sum(self._secret, context, both, self.mechanism, scales, self.max_grad_norm)
        self.shares.append(noisy_share(int(noisy[-1]), GRID, self._terms, self._units))
        self._shorter = 0
        return noisy[:-1]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of a batch, or of a step; the exact sum of the step is kept elsewhere."""
        for parameter in self.params:
            parameter.grad_sample = parameter.grad = None

    def scale_grad(self) -> None:
        """Divide by the expected number of units."""
        # Opacus would multiply by the accumulated iterations, which are counted in physical batches.
        for parameter in self.params:
            parameter.grad /= self.expected_batch_size


@dataclass(frozen=True)
class PlainSteps:
    """A patient's own steps before its delta is taken: their learning rate, and the rows of a patient in a batch."""

    rate: float
    rows: int


@dataclass(frozen=True)
class PrivateUpdate:
    """What a round of training releases."""

    tensors: dict[str, np.ndarray]  # of the trainable tensors: local − global, float32; or a vector of `study.sums`
    clipping: ClipTrace | None  # how adaptive clipping moved the clip norm; None for fixed clipping


def train_privately(
    model: VariantCaller,
    study: Study,
    site: str,
    round_number: int,
    patients: Mapping[str, Examples],
    secret: bytes,
    *,
    device: str = "cpu",
    on_step: Callable[[], object] = lambda: None,
    clip_norm: float | None = None,
    inputs: str | None = None,
) -> PrivateUpdate:
    """Train one round and return the update.

    Parameters
    ----------
    model : VariantCaller
        The global model; it is changed.
    study : Study
    site : str
        Name of the site in the study.
    round_number : int
        From 1.
    patients : mapping of str to Examples
        Training patients by name. Rows without a label are not used.
    secret : bytes
        The site's secret: keys sampling and noise.
    device : str
        A torch device.
    on_step : callable
        Called after each step, without arguments: nothing about the data gets out.
    clip_norm : float, optional
        Where adaptive clipping starts; by default at the terms' own clip norm.
    inputs : str, optional
        Digest of base model and examples, if it is known already (a genome's examples take a while); by default it is
        computed here. Draws and noise are bound to it and to who takes part.

    Raises
    ------
    PrivacyRefusal
        If a step was not made as agreed: the oracle watches each (`training.oracle`), and nothing is returned.
    """
    terms = study.privacy
    found = inputs or _content_digest(model, patients)
    digest = keyed_digest(secret, "training", found.encode(), *(name.encode() for name in sorted(patients)))
    strata = {name: stratify(patients[name]) for name in sorted(patients)}
    with single_threaded():
        freeze(model, study.model).to(device).train()
        # Frozen parameters keep requires_grad False, so that no gradient is computed for them.
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        before = {name: p.detach().double().cpu().clone() for name, p in trained.items()}
        average = {name: value.clone() for name, value in before.items()}
        sgd = torch.optim.SGD(trained.values(), lr=study.step_size)
        start = clip_norm or terms.clip_norm
        optimizer = UnitDPOptimizer(sgd, terms, study.units(site), secret, start, _share(study, site))
        optimizer.oracle = oracle = RoundOracle(
            terms, study.training, _agreed_noise(study, site), study.units(site), trained, _grid(study)
        )
        check_keys(noisy_sum, terms)
        could = sum(
            min(1, len(rows.labelled)) if terms.unit == "patient" else len(rows.labelled) for rows in strata.values()
        )
        decay = study.training.iterate_averaging
        private = None if terms.contribution == "delta" else CallerGradSampleModule(model, rows_of_a_unit(terms))
        for step in range(terms.steps_per_round):
            context = StepContext(study.digest, site, round_number, step, digest)
            units = draw_units(secret, context, strata, terms)
            oracle.drew(((unit.patient, unit.rows) for unit in units), could)
            if private is None:
                local_steps = draw_local_steps(secret, context, strata, units, terms)
                plain = PlainSteps(study.training.learning_rate, terms.rows_per_unit)
                delta_step(model, optimizer, local_steps, patients, context, plain, device)
            else:
                private_step(private, optimizer, units, patients, context, device)
            for name, parameter in trained.items():
                average[name].mul_(decay).add_(parameter.detach().double().cpu(), alpha=1 - decay)
            on_step()
        if private is not None:
            private.to_standard_module()
    tensors = {name: (average[name] - before[name]).float().numpy() for name in sorted(trained)}
    oracle.finish(tensors)
    if study.sends_sums:
        tensors = _vector(optimizer.released, trained)
        oracle.check_vector(tensors)
    trace = ClipTrace(start=start, shares=tuple(optimizer.shares)) if terms.clipping == "adaptive" else None
    return PrivateUpdate(tensors, trace)


def _share(study: Study, site: str) -> Share:
    """Return what noise a site adds, and the grid it adds it on."""
    if not study.sends_sums:
        return Share(sum_multiplier(study.privacy, study.units(site)))
    return Share(share_multiplier(study.privacy.noise_multiplier, study.noise_shares), SUM_GRID)


def _agreed_noise(study: Study, site: str) -> float:
    """Return, for the oracle, the noise multiplier of a site's sum by another way than `_share`."""
    if study.sends_sums:
        return float(study.privacy.noise_multiplier / np.sqrt(study.noise_shares))
    return sum_multiplier(study.privacy, study.units(site))


def _grid(study: Study) -> int:
    return SUM_GRID if study.sends_sums else GRID


def _vector(released: np.ndarray, trained: Mapping[str, nn.Parameter]) -> dict[str, np.ndarray]:
    """Return what a site sends where sums are opened: the noisy sum of steps, against the sign of a gradient."""
    parts = np.split(to_modulo(-released), np.cumsum([p.numel() for p in trained.values()])[:-1])
    found = {name: part.reshape(p.shape) for (name, p), part in zip(trained.items(), parts, strict=True)}
    return dict(sorted(found.items()))


def _content_digest(model: nn.Module, patients: Mapping[str, Examples]) -> str:
    """Return the SHA-256 of the weights and of all examples, in hex."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    for name in sorted(patients):
        digest.update(name.encode())
        for field in dataclasses.fields(patients[name]):
            value = getattr(patients[name], field.name)
            digest.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    return digest.hexdigest()


def delta_step(
    model: VariantCaller,
    optimizer: UnitDPOptimizer,
    local_steps: Sequence[Sequence[DrawnUnit]],
    patients: Mapping[str, Examples],
    context: StepContext,
    plain: PlainSteps,
    device: str = "cpu",
    batch_units: int | None = None,
) -> None:
    """Make one noisy step on the deltas of drawn patients (McMahan et al. 2018, with the patient as the client).

    Each patient takes a plain step on its unit in each of `local_steps`, from the model as it is; what it moved by,
    clipped, is what it contributes. An empty draw is a normal step: noise only.
    """
    size = batch_units or max(1, BATCH_ROWS // plain.rows)
    copies, count = UnitCopies(model, size, plain.rows), len(local_steps[0])
    with_reads = model.chemistry.is_needed
    for start in range(0, count, size):
        batches = [
            collate(step[start : start + size], patients, plain.rows, size, device, with_reads) for step in local_steps
        ]
        accumulate_deltas(copies, optimizer, batches, count - start, plain.rate)
    if optimizer.oracle is not None and count:
        last = [collate(step[-1:], patients, plain.rows, 1, device, with_reads) for step in local_steps]
        check_delta(model, last, plain.rate, copies.of_unit((count - 1) % size), optimizer.max_grad_norm)
    finish_step(optimizer, context)


def accumulate_deltas(
    copies: UnitCopies, optimizer: UnitDPOptimizer, batches: Sequence[tuple[Tensor, ...]], units: int, rate: float
) -> None:
    """Add the clipped deltas of a batch of patients to the sum of the step; `batches` has one for each local step."""
    copies.start()
    for batch in batches:
        copies.step(unit_losses(copies, batch), rate)
    for parameter in optimizer.params:
        parameter.grad_sample = -copies.deltas[parameter][:units]  # as a gradient points: against the step
    _add_to_sum(optimizer)


def private_step(
    model: UnitGradSampleModule,
    optimizer: UnitDPOptimizer,
    units: Sequence[DrawnUnit],
    patients: Mapping[str, Examples],
    context: StepContext,
    device: str = "cpu",
    batch_units: int | None = None,
) -> None:
    """Make one noisy step on drawn units, in batches of `batch_units` (by default, about BATCH_ROWS rows).

    An empty draw is a normal step: noise only.
    """
    rows = model.rows_per_unit
    size = batch_units or max(1, BATCH_ROWS // rows)
    with_reads = model.chemistry.is_needed
    for start in range(0, len(units), size):
        batch = collate(units[start : start + size], patients, rows, size, device, with_reads)
        accumulate(model, optimizer, batch, len(units) - start)
    finish_step(optimizer, context)


def accumulate(model: UnitGradSampleModule, optimizer: UnitDPOptimizer, batch: tuple[Tensor, ...], units: int) -> None:
    """Add the clipped gradients of a batch to the sum of the step; what follows its first `units` units is padding."""
    model.backward(unit_losses(model, batch))
    for parameter in optimizer.params:
        parameter.grad_sample = parameter.grad_sample[:units]
    _add_to_sum(optimizer)


def _add_to_sum(optimizer: UnitDPOptimizer) -> None:
    if optimizer.oracle is not None:
        optimizer.oracle.saw(optimizer.max_grad_norm)
    optimizer.signal_skip_step(True)
    optimizer.step()
    optimizer.zero_grad()


def finish_step(optimizer: UnitDPOptimizer, context: StepContext) -> None:
    """Add noise to the sum of the step, divide by public numbers and move the weights."""
    for parameter in optimizer.params:
        parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))
    optimizer.signal_skip_step(False)
    optimizer.context = context
    clip_norm = optimizer.max_grad_norm  # adaptive clipping changes it at the end of the step
    if optimizer.oracle is not None:
        optimizer.oracle.check_sum(optimizer.exact_sum)
    optimizer.step()
    if optimizer.oracle is not None:
        optimizer.oracle.check_release(context, clip_norm)
    optimizer.zero_grad()


def unit_losses(model: Callable[..., Tensor], batch: tuple[Tensor, ...]) -> Tensor:
    """Return the sum over rows of weight · cross-entropy."""
    windows, features, log_posteriors, labels, weights, *observed = batch
    losses = functional.cross_entropy(model(windows, features, log_posteriors, *observed), labels, reduction="none")
    return (losses * weights).sum()
