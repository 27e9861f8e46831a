"""Encoded examples of a small synthetic patient, against a file in the repository.

A deliberate change of what is computed makes the file anew: `python tests/unit/test_golden_examples.py`; say why in the
commit.
"""

import random
import tempfile
from pathlib import Path

import numpy as np

from fedcall.genomics.examples import Examples, open_examples, write_examples
from fedcall.genomics.pileup.extraction import extract_examples
from tiny_alignments import Read, write_alignments, write_reference, write_truth

GOLDEN = Path(__file__).parents[1] / "golden/examples.safetensors"
SEQUENCE = "".join(random.Random(9).choices("ACGT", k=300)) + "AAAAAAAA" + "CGTACGATTACA" * 20
EXACT = ("counts", "reference", "labels", "contig", "position", "allele_depths", "depth", "allele_bytes")


def make(folder: Path) -> Examples:
    """A heterozygous SNP, a homozygous one, an insertion, a deletion in a homopolymer, errors and overlapping mates."""
    generator = random.Random(4)
    changed = {120: "A" if SEQUENCE[120] != "A" else "C", 180: "G" if SEQUENCE[180] != "G" else "T"}
    reads = []
    for number in range(120):
        start, carrier = generator.randrange(20, 360), number % 2 == 0
        bases = list(SEQUENCE[start : start + 80])
        cigar = "80M"
        if start <= 180 < start + 80:
            bases[180 - start] = changed[180]
        if carrier and start <= 120 < start + 80:
            bases[120 - start] = changed[120]
        if carrier and start + 5 < 230 < start + 70:
            bases.insert(230 - start, "T")
            cigar = f"{230 - start}M1I{80 - 230 + start}M"
        elif not carrier and start + 5 < 300 < start + 70:
            del bases[300 - start]
            cigar = f"{300 - start}M1D{79 - 300 + start}M"
        if generator.random() < 0.3:
            bases[generator.randrange(len(bases))] = generator.choice("ACGTN")
        qualities = [generator.choice((2, 12, 25, 37)) for _ in bases]
        flag = generator.choice((0, 16, 0x63, 0x53, 0x93, 0xA3))
        reads.append(
            Read(start, cigar, "".join(bases), qualities, flag, generator.choice((7, 29, 60)), f"f{number // 2}")
        )
    reference = write_reference(folder, {"c": SEQUENCE})
    truth = [(120, SEQUENCE[120], changed[120], (0, 1)), (180, SEQUENCE[180], changed[180], (1, 1))]
    return extract_examples(
        write_alignments(folder, {"c": len(SEQUENCE)}, reads),
        reference,
        truth=write_truth(folder, {"c": len(SEQUENCE)}, truth),
    )


def test_extract_examples__as_in_the_golden_file(tmp_path: Path) -> None:
    found, golden = make(tmp_path), open_examples(GOLDEN)
    assert len(golden) >= 4
    for name in EXACT:
        np.testing.assert_array_equal(getattr(found, name), getattr(golden, name), err_msg=name)
    # Logarithms differ in their last digits from one mathematical library to another.
    for name in ("features", "log_likelihoods"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(golden, name), rtol=1e-5, atol=1e-5, err_msg=f"{name}: {__doc__}"
        )
    assert found.metadata.items() <= golden.metadata.items()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        GOLDEN.parent.mkdir(exist_ok=True)
        write_examples(GOLDEN, make(Path(folder)))
