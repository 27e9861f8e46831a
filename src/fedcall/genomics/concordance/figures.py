"""Counts of matched and unmatched variants, and the figures computed from them."""

from collections.abc import Iterable

from fedcall.documents import Document


class Tally(Document):
    """Counts on both sides; sums of tallies are tallies.

    Attributes
    ----------
    truth, calls : int
        Variants on either side.
    tp, tp_calls : int
        Those whose allele and copies the other side has, too.
    allele_tp, allele_tp_calls : int
        Those whose allele the other side has, whatever its copies.
    """

    truth: int = 0
    tp: int = 0
    allele_tp: int = 0
    calls: int = 0
    tp_calls: int = 0
    allele_tp_calls: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(**{name: getattr(self, name) + getattr(other, name) for name in Tally.model_fields})

    @staticmethod
    def total(tallies: Iterable["Tally"]) -> "Tally":
        """Return the sum of tallies."""
        result = Tally()
        for tally in tallies:
            result = result + tally
        return result


class Figures(Document):
    """Accuracy of calls against truth.

    Attributes
    ----------
    tp, fn : int
        Variants of the truth found with the right genotype, and the others.
    tp_calls, fp : int
        Calls with the right genotype, and the others.
    genotype_errors : int
        Calls of a true allele with the wrong number of copies; they count as `fp`, and their truth as `fn`.
    precision, recall, f1 : float or None
        None where nothing can be said: no calls, no truth, no truth.
    allele_tp, allele_fn, allele_tp_calls, allele_fp, allele_precision, allele_recall, allele_f1
        The same, ignoring the number of copies.
    """

    tp: int
    fn: int
    tp_calls: int
    fp: int
    genotype_errors: int
    precision: float | None
    recall: float | None
    f1: float | None
    allele_tp: int
    allele_fn: int
    allele_tp_calls: int
    allele_fp: int
    allele_precision: float | None
    allele_recall: float | None
    allele_f1: float | None

    @staticmethod
    def of(tally: Tally) -> "Figures":
        """Compute the figures of a tally."""
        return Figures(
            tp=tally.tp,
            fn=tally.truth - tally.tp,
            tp_calls=tally.tp_calls,
            fp=tally.calls - tally.tp_calls,
            genotype_errors=tally.allele_tp_calls - tally.tp_calls,
            precision=ratio(tally.tp_calls, tally.calls),
            recall=ratio(tally.tp, tally.truth),
            f1=f1(tally.tp, tally.truth, tally.tp_calls, tally.calls),
            allele_tp=tally.allele_tp,
            allele_fn=tally.truth - tally.allele_tp,
            allele_tp_calls=tally.allele_tp_calls,
            allele_fp=tally.calls - tally.allele_tp_calls,
            allele_precision=ratio(tally.allele_tp_calls, tally.calls),
            allele_recall=ratio(tally.allele_tp, tally.truth),
            allele_f1=f1(tally.allele_tp, tally.truth, tally.allele_tp_calls, tally.calls),
        )

    @property
    def tally(self) -> Tally:
        """The counts these figures were computed from."""
        return Tally(
            truth=self.tp + self.fn,
            tp=self.tp,
            allele_tp=self.allele_tp,
            calls=self.tp_calls + self.fp,
            tp_calls=self.tp_calls,
            allele_tp_calls=self.allele_tp_calls,
        )


def ratio(part: int, whole: int) -> float | None:
    """Return part / whole, or None of nothing."""
    return part / whole if whole else None


def f1(tp: int, truth: int, tp_calls: int, calls: int) -> float | None:
    """Return the harmonic mean of precision and recall: None without truth, 0 if no call is right.

    Examples
    --------
    >>> round(f1(tp=8, truth=10, tp_calls=8, calls=8), 3)  # recall 0.8, precision 1
    0.889
    """
    if truth == 0:
        return None
    precision, recall = ratio(tp_calls, calls) or 0.0, tp / truth
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
