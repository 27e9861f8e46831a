"""Opening the sum of many masked updates, helper included, against Flower's plain average of as many updates."""

import statistics
import tempfile
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from fedcall.benchmarks.aggregate import plain_updates, shipped_or_made
from fedcall.benchmarks.alternation import alternate, median_ratio
from fedcall.benchmarks.sum_rounds import PATIENTS, agree, hide_with_masks, ordered_round
from fedcall.federation.aggregator.aggregation import Contribution, next_global, quiet_flower
from fedcall.study.aggregation_terms import AggregationTerms


class SumBenchmark(BaseModel):
    """One masked round with one size of model. Seconds are wall-clock."""

    parameters: int
    sites: int
    opening_seconds: float  # the aggregator's: masked updates minus masks, checks, average, next model
    helper_seconds: float  # verifying the order and all claims, opening the seeds, adding the masks
    averaging_seconds: float  # of as many plain updates, by Flower's strategy, as in a plain study
    opening_ratio: float  # opening over averaging, median of turns measured side by side
    opening_and_helper_ratio: float
    masking_seconds: float  # of one site
    upload_bytes: int  # masked update and claim of one site
    plain_upload_bytes: int
    upload_ratio: float
    repeats: int


def benchmark_masked_sum(sites: int, parameters: int | None, repeats: int) -> SumBenchmark:
    """Open the sum of `sites` masked updates; the shipped model without `parameters`."""
    quiet_flower()
    with tempfile.TemporaryDirectory(prefix="fedcall-") as name:
        folder = Path(name)
        tensors = shipped_or_made(parameters)
        plain = plain_updates(folder / "plain", tensors, max(sites, 2))
        study = agree(folder, tensors, max(sites, 2), ("helper",), {"mode": "masked"})
        made = ordered_round(folder, study, tensors, hide_with_masks(folder, study))
        base = {name: np.array(tensor) for name, tensor in tensors.items()}
        contributions = [Contribution(site, update, PATIENTS) for site, (update, _) in plain.items()]
        desk = made.desk("helper", folder / "answers")
        order = made.order("helper")
        given = desk.answer(*order, 1)
        made.state.sums.take("helper", given.statement, given.masks)
        turns = {
            "opening": lambda: made.state.sums.close(base),
            "helper": lambda: desk.answer(*order, 1),
            "averaging": lambda: next_global(tensors, contributions, AggregationTerms()),
        }
        seconds = alternate(turns, repeats)
        update, claim = next(iter(plain.values()))
        plain_bytes = update.stat().st_size + claim.stat().st_size
    both = [one + other for one, other in zip(seconds["opening"], seconds["helper"], strict=True)]
    return SumBenchmark(
        parameters=sum(tensor.size for tensor in tensors.values()),
        sites=max(sites, 2),
        opening_seconds=statistics.median(seconds["opening"]),
        helper_seconds=statistics.median(seconds["helper"]),
        averaging_seconds=statistics.median(seconds["averaging"]),
        opening_ratio=median_ratio(seconds["opening"], seconds["averaging"]),
        opening_and_helper_ratio=median_ratio(both, seconds["averaging"]),
        masking_seconds=made.hiding_seconds,
        upload_bytes=made.upload_bytes,
        plain_upload_bytes=plain_bytes,
        upload_ratio=made.upload_bytes / plain_bytes,
        repeats=repeats,
    )


def as_text(result: SumBenchmark) -> str:
    """Return the result for people, at most 80 columns."""
    return "\n".join(
        [
            f"{result.sites} sites, {result.parameters:,} parameters, masked",
            f"  opening          {result.opening_seconds:8.3f} s   ({result.opening_ratio:.2f} times plain averaging:"
            f" {result.averaging_seconds:.3f} s)",
            f"  helper           {result.helper_seconds:8.3f} s   (with opening {result.opening_and_helper_ratio:.2f}"
            " times)",
            f"  masking, a site  {result.masking_seconds:8.3f} s",
            f"  upload           {result.upload_bytes:,} bytes   ({result.upload_ratio:.3f} times a plain one)",
        ]
    )
