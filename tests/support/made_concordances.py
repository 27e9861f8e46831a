"""Concordances with chosen figures, for what is decided from them."""

from collections.abc import Sequence

from fedcall.genomics.concordance.comparison import BLOCKS, Block, Concordance, assemble
from fedcall.genomics.concordance.figures import Tally
from fedcall.genomics.concordance.strata import CALIBRATION_BINS
from fedcall.reporting.evaluation.inputs import Result

TRUTH = 200  # variants of a person; as many are called, so that F1 is the share of them that is right


def made_concordance(right: int, bases: int = 20_000) -> Concordance:
    """Return the concordance of one person with `right` of 200 variants right, spread over the blocks."""
    share = [right * (block + 1) // BLOCKS - right * block // BLOCKS for block in range(BLOCKS)]
    each = TRUTH // BLOCKS
    tallies = [
        Tally(truth=each, tp=found, allele_tp=found, calls=each, tp_calls=found, allele_tp_calls=found)
        for found in share
    ]
    return assemble(
        patients=1,
        regions_bases=bases,
        regions_digest="ab" * 32,
        blocks=[Block(snps=tally, indels=None) for tally in tallies],
        strata={},
        calibration=[(0, 0) for _ in CALIBRATION_BINS],
    )


def no_regions() -> Concordance:
    """Return the concordance of a person none of whose regions is unseen."""
    return assemble(1, 0, "cd" * 32, [Block(snps=Tally(), indels=None)] * BLOCKS, {}, [(0, 0)] * len(CALIBRATION_BINS))


def made_results(initial: Sequence[int], final: Sequence[int], site: str = "public") -> list[Result]:
    """Return results of people of whom the two models get so many of 200 variants right."""
    return [
        Result(site, caller, f"{site}-{number}", made_concordance(right))
        for caller, rights in (("initial", initial), ("final", final))
        for number, right in enumerate(rights)
    ]
