"""Training of the initial model on public patients. Not private: nobody's secret is in the data."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fedcall.errors import PrivacyRefusal
from fedcall.genomics.examples import Examples, concatenate, open_examples
from fedcall.genomics.fingerprints import content_fingerprints
from fedcall.keys import read_secret
from fedcall.model.caller import VariantCaller, build_model, save_model, single_threaded
from fedcall.model.encoding import encode
from fedcall.privacy.ledger.ledger import Ledger, Member
from fedcall.study.terms import ModelTerms
from fedcall.training.row_sampling import HARD_SHARE, label_weights, stratify

BATCH_ROWS = 128
STEPS = (100, 800)
"""Fewest and most steps; in between, enough to see each hard row EPOCHS times."""
EPOCHS = 10
CHECK_EVERY = 50
CHECK_ROWS = 10_000
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-2
EMA_DECAY = 0.98
BLOCK_BASES = 10_000
"""Stretches of this length, every fifth of them, are held back to decide when to stop."""
_SEED = 7


def train_on_public_examples(
    terms: ModelTerms,
    example_paths: Sequence[Path],
    output: Path,
    set_total: Callable[[int], object] = lambda total: None,
    on_step: Callable[[], object] = lambda: None,
) -> None:
    """Write the initial model of a study: trained on public examples, or fresh if there are none."""
    examples = concatenate([open_examples(path) for path in example_paths]) if example_paths else None
    model = build_model()
    if examples is not None:
        model = train_publicly(model, examples, set_total, on_step)
    save_model(output, model)


def refuse_charged_people(example_paths: Sequence[Path], ledgers: Sequence[tuple[Path, Path]]) -> None:
    """Refuse public examples of somebody whom a hospital's ledger has charged as private, by name or by data.

    Parameters
    ----------
    example_paths : sequence of Path
        Named after the people they are of.
    ledgers : sequence of (Path, Path)
        Ledgers and the key folders they belong to; one that does not exist has charged nobody.

    Raises
    ------
    PrivacyRefusal
        Names the file, the ledger and what to do.
    """
    members = [
        Member(path.stem, path.stem, content_fingerprints(open_examples(path)), is_private=False)
        for path in example_paths
    ]
    for path, keys in ledgers:
        if not path.is_file():
            continue
        with Ledger.open_to_read(path, read_secret(keys)) as ledger:
            charged = ledger.charged_private(members)
        if charged:
            raise PrivacyRefusal(
                f"'{charged[0].patient}': {path} has charged this person, or this data under another name, as private;"
                " who was ever private is never public, and the first model is trained without privacy: leave these"
                " examples out"
            )


def train_publicly(
    model: VariantCaller,
    examples: Examples,
    set_total: Callable[[int], object] = lambda total: None,
    on_step: Callable[[], object] = lambda: None,
) -> VariantCaller:
    """Train all layers and return the model that was best on held-back stretches; the fresh one if none was better.

    Parameters
    ----------
    model : VariantCaller
        Where to start; it is changed.
    examples : Examples
        Public rows; those without a label are not used.
    set_total, on_step : callable
        Told the number of steps, and called after each.
    """
    held_back = (examples.position // BLOCK_BASES) % 5 == 4
    strata = stratify(examples)
    hard, easy = strata.hard[~held_back[strata.hard]], strata.easy[~held_back[strata.easy]]
    check = strata.labelled[held_back[strata.labelled]]
    check = check[:: 1 + len(check) // CHECK_ROWS]
    steps = int(np.clip(EPOCHS * len(hard) / (HARD_SHARE * BATCH_ROWS), *STEPS))
    set_total(steps)
    if not len(hard):
        return model
    generator = np.random.Generator(np.random.PCG64(_SEED))
    with single_threaded():
        held_batch = _batch(examples, check, np.ones(len(check)), strata.variant_weight)
        best, best_loss = _copy(model), _mean_loss(model, held_batch)
        average = _copy(model)
        optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
        for step in range(steps):
            loss = _loss(model, _batch(examples, *_draw(generator, hard, easy), strata.variant_weight))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            # A young average forgets faster, so that it is not still the fresh model after a short training.
            decay = min(EMA_DECAY, (step + 1) / (step + 10))
            for name, tensor in model.state_dict().items():
                average[name].mul_(decay).add_(tensor, alpha=1 - decay)
            if (step + 1) % CHECK_EVERY == 0 or step == steps - 1:
                trained = build_model()
                trained.load_state_dict(average)
                found = _mean_loss(trained, held_batch)
                if found < best_loss or not len(check):
                    best, best_loss = _copy(trained), found
            on_step()
    model.load_state_dict(best)
    return model


def _draw(generator: np.random.Generator, hard: np.ndarray, easy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw a batch, mostly of hard rows, and weights that make it stand for all rows (as `draw_bag` does)."""
    hard_count = round(HARD_SHARE * BATCH_ROWS)
    easy_count = BATCH_ROWS - hard_count if len(easy) else 0
    rows = [generator.choice(hard, hard_count)]
    weights = [np.full(hard_count, 1 / hard_count)]
    if easy_count:
        rows.append(generator.choice(easy, easy_count))
        weights.append(np.full(easy_count, len(easy) / (len(hard) * easy_count)))
    return np.concatenate(rows), np.concatenate(weights)


def _batch(examples: Examples, rows: np.ndarray, weights: np.ndarray, variant_weight: float) -> tuple[Tensor, ...]:
    labels = examples.labels[rows].astype(np.int64)
    arrays = (*encode(examples, rows), labels, (weights * label_weights(labels, variant_weight)).astype(np.float32))
    return tuple(torch.from_numpy(array) for array in arrays)


def _loss(model: VariantCaller, batch: tuple[Tensor, ...]) -> Tensor:
    windows, features, log_posteriors, labels, weights = batch
    losses = functional.cross_entropy(model(windows, features, log_posteriors), labels, reduction="none")
    return (losses * weights).sum()


def _mean_loss(model: VariantCaller, batch: tuple[Tensor, ...]) -> float:
    with torch.inference_mode():
        total = sum(
            float(_loss(model, part)) for part in zip(*(torch.split(tensor, 1024) for tensor in batch), strict=True)
        )
    return total / max(len(batch[0]), 1)


def _copy(model: VariantCaller) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
