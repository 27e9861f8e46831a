"""A private step of training against plain SGD and against stock Opacus, on the same rows and one thread."""

import functools
import itertools
import multiprocessing
import statistics
import warnings
from collections.abc import Callable, Mapping

import numpy as np
import torch
from opacus import PrivacyEngine
from pydantic import BaseModel
from torch import Tensor, nn

from fedcall.benchmarks.alternation import alternate, median_ratio
from fedcall.genomics.examples import COUNT_CHANNELS, FEATURES, WINDOW, Examples, make_examples
from fedcall.model.caller import VariantCaller, build_model, freeze, single_threaded
from fedcall.model.unit_copies import UnitCopies
from fedcall.model.unit_gradients import CallerGradSampleModule
from fedcall.privacy.mechanism.noise import StepContext, noisy_sum
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.terms import ModelTerms, TrainingTerms
from fedcall.training.delta_oracle import check_delta
from fedcall.training.dp_sgd import (
    BATCH_ROWS,
    UnitDPOptimizer,
    accumulate,
    accumulate_deltas,
    finish_step,
    unit_losses,
)
from fedcall.training.oracle import RoundOracle
from fedcall.training.row_sampling import stratify
from fedcall.training.units import collate, draw_units

PATIENTS, ROWS = 16, 16
SECRET = bytes(32)  # of nobody: the rows are random numbers
TERMS = PrivacyTerms(sampling_rate=1.0, rows_per_unit=ROWS, delta=1e-2)
LEARNING_RATE = 1e-3
MEMORY_STEPS = 5
LOCAL_STEPS = 4
DELTA_TERMS = TERMS.model_copy(
    update={"contribution": "delta", "local_steps": LOCAL_STEPS, "steps_per_round": 1, "clip_norm": 1e-3}
)
_DRAWN = [(f"p{number:02}", np.zeros(ROWS, np.int64)) for number in range(PATIENTS)]  # as the oracle is told

Step = Callable[[], object]


class StepBenchmark(BaseModel):
    """What `fedcall benchmark step` prints; times are medians, ratios medians of turns measured side by side."""

    sgd_ratio: float  # our step over plain SGD, all parameters trainable
    opacus_ratio: float  # stock Opacus over our step
    head_sgd_ratio: float  # as sgd_ratio, with `trainable: head`
    noise_share: float  # of our step
    oracle_share: float  # of our step
    delta_sgd_ratio: float  # a noisy step on deltas over as many plain SGD steps as each patient takes, all parameters
    head_delta_sgd_ratio: float  # as delta_sgd_ratio, with `trainable: head`
    local_steps: int = LOCAL_STEPS
    milliseconds: dict[str, float]
    peak_memory_mb: dict[str, float]  # of a process that makes steps, above what it held before
    patients: int = PATIENTS
    rows_per_patient: int = ROWS
    parameters: int
    repeats: int
    threads: int = 1


def benchmark_step(repeats: int) -> StepBenchmark:
    """Time `repeats` steps of each contender in turn, and measure memory in a process for each."""
    memory = {name: _peak_memory(name) for name in ("sgd", "private", "opacus")}
    with single_threaded():
        steps = {name: make() for name, make in CONTENDERS.items()}
        seconds = alternate(steps, repeats)
    return StepBenchmark(
        sgd_ratio=median_ratio(seconds["private"], seconds["sgd"]),
        opacus_ratio=median_ratio(seconds["opacus"], seconds["private"]),
        head_sgd_ratio=median_ratio(seconds["private_head"], seconds["sgd_head"]),
        noise_share=median_ratio(seconds["noise"], seconds["private"]),
        oracle_share=1 - median_ratio(seconds["unwatched"], seconds["private"]),
        delta_sgd_ratio=median_ratio(seconds["delta"], seconds["sgd"]) / LOCAL_STEPS,
        head_delta_sgd_ratio=median_ratio(seconds["delta_head"], seconds["sgd_head"]) / LOCAL_STEPS,
        milliseconds={name: 1e3 * statistics.median(found) for name, found in seconds.items()},
        peak_memory_mb=memory,
        parameters=_trained_numbers(),
        repeats=repeats,
    )


def as_text(result: StepBenchmark) -> str:
    """Return the result as a table and four sentences."""
    names = {
        "sgd": "plain SGD",
        "private": "fedcall, per patient",
        "opacus": "Opacus, per example",
        "sgd_head": "plain SGD, head only",
        "private_head": "fedcall, per patient, head only",
        "unwatched": "fedcall without its oracle",
        "delta": f"fedcall, deltas of {LOCAL_STEPS} local steps",
        "delta_head": f"deltas of {LOCAL_STEPS} steps, head only",
        "noise": "keyed noise alone",
    }
    lines = [
        f"one step on {result.patients} patients x {result.rows_per_patient} rows, {result.parameters} parameters, one"
        f" thread, median of {result.repeats}",
        f"{'':34}{'ms':>8}{'peak MB':>10}",
    ]
    for name, label in names.items():
        memory = result.peak_memory_mb.get(name)
        lines.append(f"{label:34}{result.milliseconds[name]:>8.1f}{'' if memory is None else f'{memory:.0f}':>10}")
    lines += [
        f"{result.sgd_ratio:.2f} times plain SGD ({result.head_sgd_ratio:.2f} with trainable: head)",
        f"deltas: {result.delta_sgd_ratio:.2f} times {result.local_steps} plain SGD steps"
        f" ({result.head_delta_sgd_ratio:.2f} with trainable: head)",
        f"{result.opacus_ratio:.2f} times faster than stock Opacus",
        f"keyed noise is {100 * result.noise_share:.1f} % of a step, the oracle {100 * result.oracle_share:.1f} %",
    ]
    return "\n".join(lines)


def _sgd(trainable: str = "all") -> Step:
    model = _model(trainable)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=LEARNING_RATE)
    batch = _batches(PATIENTS)[0]

    def step() -> None:
        optimizer.zero_grad()
        unit_losses(model, batch).backward()
        optimizer.step()

    return step


def _private(trainable: str = "all", watched: bool = True) -> Step:
    model = CallerGradSampleModule(_model(trainable), ROWS)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = UnitDPOptimizer(torch.optim.SGD(trained.values(), lr=LEARNING_RATE), TERMS, PATIENTS, SECRET)
    if watched:
        training = TrainingTerms(learning_rate=LEARNING_RATE, iterate_averaging=0.0)
        terms = TERMS.model_copy(update={"steps_per_round": 100_000})  # one round, however often it is repeated
        optimizer.oracle = RoundOracle(terms, training, TERMS.noise_multiplier, PATIENTS, trained)
    steps = itertools.count()
    size = max(1, BATCH_ROWS // ROWS)
    batches = _batches(size)

    def step() -> None:
        if optimizer.oracle is not None:
            optimizer.oracle.drew(_DRAWN, PATIENTS)
        for batch in batches:
            accumulate(model, optimizer, batch, size)
        finish_step(optimizer, StepContext("benchmark", "site", 1, next(steps), "none"))

    return step


def _delta(trainable: str = "all") -> Step:
    """Make a noisy step on the deltas of all patients, with the oracle and its second opinion on one of them."""
    model = _model(trainable)
    assert isinstance(model, VariantCaller)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    # An oracle of one round that is repeated, and steps that leave the model where it is.
    terms = DELTA_TERMS.model_copy(update={"steps_per_round": 100_000})
    optimizer = UnitDPOptimizer(torch.optim.SGD(trained.values(), lr=1.0), DELTA_TERMS, PATIENTS, SECRET)
    optimizer.oracle = RoundOracle(terms, TrainingTerms(), DELTA_TERMS.noise_multiplier, PATIENTS, trained)
    steps, size = itertools.count(), max(1, BATCH_ROWS // ROWS)
    copies = UnitCopies(model, size, ROWS)
    batches = _batches(size)
    one = tuple(part[-ROWS:] for part in batches[-1])

    def step() -> None:
        assert optimizer.oracle is not None
        optimizer.oracle.drew(_DRAWN, PATIENTS)
        for batch in batches:
            accumulate_deltas(copies, optimizer, [batch] * LOCAL_STEPS, size, LEARNING_RATE)
        check_delta(model, [one] * LOCAL_STEPS, LEARNING_RATE, copies.of_unit(size - 1), DELTA_TERMS.clip_norm)
        finish_step(optimizer, StepContext("benchmark", "site", 1, next(steps), "none"))

    return step


def _opacus() -> Step:
    model = _model("all")
    batch = _batches(PATIENTS)[0]
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*batch), batch_size=PATIENTS * ROWS)
    with warnings.catch_warnings():
        # Its generator is not cryptographic: nothing here is released.
        warnings.filterwarnings("ignore", "Secure RNG turned off", UserWarning)
        engine = PrivacyEngine(accountant="rdp")
    private, optimizer, _ = engine.make_private(
        module=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=LEARNING_RATE),
        data_loader=loader,
        noise_multiplier=TERMS.noise_multiplier,
        max_grad_norm=TERMS.clip_norm,
        poisson_sampling=False,
        loss_reduction="sum",
    )

    def step() -> None:
        optimizer.zero_grad()
        with warnings.catch_warnings():
            # The rows are no parameters, so the first layer's hook has no gradient of its input to fire with.
            warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
            unit_losses(private, batch).backward()
        optimizer.step()

    return step


def _noise() -> Step:
    total = np.zeros(_trained_numbers(), np.int64)
    context = StepContext("benchmark", "site", 1, 0, "none")
    return lambda: noisy_sum(SECRET, context, total, TERMS.mechanism, TERMS.noise_multiplier)


CONTENDERS: Mapping[str, Callable[[], Step]] = {
    "sgd": _sgd,
    "private": _private,
    "opacus": _opacus,
    "sgd_head": functools.partial(_sgd, "head"),
    "private_head": functools.partial(_private, "head"),
    "unwatched": functools.partial(_private, "all", False),
    "noise": _noise,
    "delta": _delta,
    "delta_head": functools.partial(_delta, "head"),
}


def _trained_numbers() -> int:
    return sum(parameter.numel() for parameter in build_model().parameters() if parameter.requires_grad)


def _model(trainable: str) -> nn.Module:
    return freeze(build_model(), ModelTerms.model_validate({"trainable": trainable})).train()


def _batches(size: int) -> list[tuple[Tensor, ...]]:
    """Return the rows of all patients in batches of `size` patients, encoded: no contender has to wait for them."""
    patients = {f"p{number:02}": _patient(number) for number in range(PATIENTS)}
    context = StepContext("benchmark", "site", 1, 0, "none")
    units = draw_units(SECRET, context, {name: stratify(one) for name, one in patients.items()}, TERMS)
    return [collate(units[i : i + size], patients, ROWS, size, "cpu") for i in range(0, PATIENTS, size)]


def _patient(seed: int, rows: int = 100) -> Examples:
    """Return random rows: speed does not depend on what they say."""
    random = np.random.default_rng(seed)
    likelihoods = -random.exponential(5.0, (rows, 3))
    return make_examples(
        [("C", "T")] * rows,
        {"contigs": '["chr1"]'},
        counts=random.integers(0, 30, (rows, len(COUNT_CHANNELS), WINDOW)),
        reference=random.integers(0, 4, (rows, WINDOW)),
        features=random.uniform(-2, 2, (rows, len(FEATURES))),
        log_likelihoods=likelihoods - likelihoods.max(1, keepdims=True),
        labels=random.integers(0, 3, rows),
        contig=np.zeros(rows),
        position=np.arange(rows) * 1000,
        allele_depths=np.ones((rows, 2)),
        depth=np.full(rows, 20),
    )


def _peak_memory(name: str) -> float:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_memory_of_steps, (name,))


def _memory_of_steps(name: str) -> float:
    """Return how far this process grew, in MB (2^20 bytes), while it made a few steps."""
    torch.set_num_threads(1)
    step = CONTENDERS[name]()
    before = _status_kb("VmRSS")
    with open("/proc/self/clear_refs", "w") as handle:
        handle.write("5")  # forget the peak so far (proc(5))
    for _ in range(MEMORY_STEPS):
        step()
    return (_status_kb("VmHWM") - before) / 1024


def _status_kb(key: str) -> int:
    with open("/proc/self/status") as handle:
        return next(int(line.split()[1]) for line in handle if line.startswith(key + ":"))
