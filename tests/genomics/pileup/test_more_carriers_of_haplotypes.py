"""Through the whole extraction: every further read of a haplotype speaks for all that the haplotype carries."""

import random
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedcall.genomics.examples import Examples
from fedcall.genomics.pileup.extraction import extract_examples
from haplotype_reads import PLACE, SEQUENCE, carriers, other
from tiny_alignments import Read, write_alignments, write_reference

Variant = tuple[int, str, str]


@st.composite
def haplotypes(draw: st.DrawFn) -> list[Variant]:
    """Substitutions, runs of them, insertions and deletions, close to each other."""
    at, found = PLACE, []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["SNP", "SNP", "SNP", "two bases", "insertion", "deletion"]))
        if kind == "insertion":
            found.append((at, SEQUENCE[at], SEQUENCE[at] + draw(st.sampled_from(["G", "TAC", "GGATCCA"]))))
        elif kind == "deletion":
            found.append((at, SEQUENCE[at : at + 1 + draw(st.integers(1, 5))], SEQUENCE[at]))
        else:
            found += [(place, SEQUENCE[place], other(SEQUENCE[place])) for place in range(at, at + 1 + (kind != "SNP"))]
        # An indel directly beside a change is another indel.
        at = found[-1][0] + len(found[-1][1]) + draw(st.sampled_from([0, 2, 7, 15])) + 1
    return found


def placed(count: int, length: int, generator: random.Random) -> list[int]:
    """Starts of reads that hold all changes, none of them near an end."""
    return sorted(generator.randint(PLACE + 150 - length, PLACE - 25) for _ in range(count))


def odds(examples: Examples, variants: list[Variant]) -> dict[Variant, float]:
    """Log-odds of carrying each candidate, from the reads alone."""
    found = {}
    for row in range(len(examples)):
        none, one, two = examples.log_likelihoods[row].astype(np.float64)
        found[int(examples.position[row]), *examples.alleles(row)] = float(np.logaddexp(one, two) - none)
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    haplotypes(),
    st.integers(2, 40),
    st.integers(0, 60),
    st.integers(1, 60),
    st.sampled_from([(37, 60), (12, 60), (37, 12), (20, 20)]),
    st.sampled_from([250, 400, 550]),
    st.integers(0, 9),
)
def test_extract_examples__further_carriers_never_favour_the_reference(
    tmp_path: Path, variants: list[Variant], carrying: int, plain: int, more: int, quality: tuple[int, int],
    length: int, seed: int,
) -> None:  # fmt: skip
    generator = random.Random(seed)
    reference = write_reference(tmp_path, {"c": SEQUENCE})
    base_quality, mapping_quality = quality

    def reads(changes: list[Variant], count: int) -> list[Read]:
        made = carriers(changes, placed(count, length, generator), base_quality, length)
        for number, read in enumerate(made):
            object.__setattr__(read, "flag", 16 * (number % 2))
            object.__setattr__(read, "mapping_quality", mapping_quality)
        return made

    first = [*reads(variants, carrying), *reads([], plain)]
    less, greater = (
        odds(extract_examples(write_alignments(tmp_path, {"c": len(SEQUENCE)}, own), reference), variants)
        for own in (first, [*first, *reads(variants, more)])
    )
    lost = {one: (less[one], greater.get(one)) for one in less if greater.get(one, -np.inf) < less[one] - 1e-2}
    assert not lost
