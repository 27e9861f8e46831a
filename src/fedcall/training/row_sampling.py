"""Which rows of a patient a step looks at, and how much each counts.

Everything here happens inside one patient and before the patient's gradient is clipped, so it is free: any drawing and
any weighting leaves the guarantee as it is.

Most candidates are easy: reference by likelihood and by label, without a gradient worth having. Rows are therefore
drawn from two strata, mostly from the hard one, and weighted back, so that the expected loss of a patient is the
cross-entropy summed over all labelled rows (variants counting more), divided by the number of hard rows.
"""

from dataclasses import dataclass

import numpy as np

from fedcall.genomics.examples import Examples
from fedcall.model.encoding import log_posteriors
from fedcall.privacy.mechanism.noise import StepContext, Stream, step_key

HARD_SHARE = 0.75
"""Share of a patient's rows in a step that is drawn from the hard rows, if there are enough."""

EASY_POSTERIOR = 0.95
"""A row is easy if its label is 0/0 and the likelihood says so with at least this probability."""

VARIANT_WEIGHT = 1.5
"""Weight of a row whose label is a variant, where the unit is one example and a patient's own weight is not free.

Cross-entropy alone ends at accuracy's operating point (call above ½), which trades recall for precision. F1 is highest
when variants are called above F1/2 (Lipton et al. 2014), and cross-entropy's threshold moves there when a variant
counts 2/F1 - 1 times as much as a reference row: `operating_weight`. The constant belongs to F1 = .8."""

WEIGHT_LIMITS = (1.0, 6.0)


@dataclass(frozen=True)
class Rows:
    """The labelled rows of one patient, in two strata.

    Attributes
    ----------
    hard, easy : int64
        Row numbers within the patient's examples.
    variant_weight : float
        What a row with a variant counts, in rows without one: the patient's own operating point.
    """

    examples: Examples
    hard: np.ndarray
    easy: np.ndarray
    variant_weight: float

    @property
    def labelled(self) -> np.ndarray:
        """All labelled rows, sorted: int64."""
        return np.sort(np.concatenate([self.hard, self.easy]))


def stratify(examples: Examples) -> Rows:
    """Divide the rows with a label (0, 1 or 2) into hard and easy ones; rows without label are left out."""
    labels = np.asarray(examples.labels)
    posteriors = log_posteriors(examples)
    easy = (labels == 0) & (posteriors[:, 0] >= np.log(EASY_POSTERIOR))
    labelled = labels >= 0
    true_alleles = int(examples.metadata.get("true_alleles", 0))
    weight = operating_weight(labels[labelled], posteriors[labelled].argmax(1), true_alleles)
    return Rows(examples, np.flatnonzero(labelled & ~easy), np.flatnonzero(easy), weight)


def operating_weight(labels: np.ndarray, called: np.ndarray, true_alleles: int = 0) -> float:
    """Return 2/F1 - 1 for the F1 of the called genotypes, within WEIGHT_LIMITS.

    The F1 is the likelihood caller's on this patient, over all `true_alleles`: no row stands for a variant that no read
    shows. It is low where reads are few, and there a variant that can be seen must count more.
    """
    right = int(((labels == called) & (labels > 0)).sum())
    variants = max(true_alleles, int((labels > 0).sum()))
    f1 = 2 * right / max(variants + int((called > 0).sum()), 1)
    return float(np.clip(2 / max(f1, 1e-3) - 1, *WEIGHT_LIMITS))


def draw_rows(
    secret: bytes, context: StepContext, patient: str, rows: Rows, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw up to `count` labelled rows of a patient, without replacement, from the keyed stream.

    Returns
    -------
    rows : int64, shape (b,), b ≤ count
    weights : float32, shape (b,)
        What each row's loss counts: its stratum's size over the stratum's draws, over the number of hard rows.
    """
    stream = Stream(step_key(secret, context, "bag", patient.encode()))
    hard_order = np.argsort(stream.integers(len(rows.hard)), kind="stable")
    easy_order = np.argsort(stream.integers(len(rows.easy)), kind="stable")
    hard_count = min(len(rows.hard), max(round(HARD_SHARE * count), count - len(rows.easy)))
    easy_count = min(len(rows.easy), count - hard_count)
    drawn = np.concatenate([rows.hard[hard_order[:hard_count]], rows.easy[easy_order[:easy_count]]])
    scale = max(len(rows.hard), 1)
    weights = np.concatenate(
        [
            np.full(hard_count, len(rows.hard) / (max(hard_count, 1) * scale)),
            np.full(easy_count, len(rows.easy) / (max(easy_count, 1) * scale)),
        ]
    )
    return drawn, (weights * label_weights(rows.examples.labels[drawn], rows.variant_weight)).astype(np.float32)


def label_weights(labels: np.ndarray, variant_weight: float = VARIANT_WEIGHT) -> np.ndarray:
    """Return what a row of each label counts: float64, the shape of `labels`."""
    return np.where(np.asarray(labels) > 0, variant_weight, 1.0)
