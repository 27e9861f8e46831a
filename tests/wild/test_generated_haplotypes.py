"""One person's haplotypes, spelled in two of the ways in which callers write them: no difference, in either direction.

Changes of every kind (substitutions of one base and more, insertions, deletions, both at once, in repeats and outside)
are written trimmed, with bases around them, shifted to the right, split by base, twice, out of order, in lower case.
"""

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedcall.genomics.concordance.comparison import compare
from fedcall.genomics.truth.normalise_labels import normalise_labels
from tiny_alignments import write_reference

EXAMPLES = int(os.environ.get("FEDCALL_WILD_EXAMPLES", "40"))
wild = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

Change = tuple[int, str, str, str]
"""0-based position, bases removed, bases put in, genotype."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fedcall-wild-") as name:
        yield Path(name)


def changes(bases: str, chance: random.Random) -> list[Change]:
    """Changes far enough from each other that shifting one does not run into the next, mostly."""
    found: list[Change] = []
    at = chance.randrange(9, 25)
    while at < len(bases) - 30:
        size, added = chance.choice([(1, 1), (3, 3), (0, 2), (0, 4), (4, 0), (1, 0), (2, 1), (1, 3)])
        removed = bases[at : at + size]
        new = (
            bases[at : at + added] if size == 0 and chance.random() < 0.5 else "".join(chance.choices("ACGT", k=added))
        )
        if new != removed:
            found.append((at, removed, new, chance.choice(["0|1", "1|0", "1|1"])))
        at += size + chance.choice([12, 20, 30])
    return found


def spelled(bases: str, change: Change, chance: random.Random) -> list[Change]:
    """One way to write a change as records."""
    at, removed, new, genotype = change
    way = chance.choice(["plain", "right", "before", "behind", "split"])
    if way == "split" and len(removed) == len(new):
        pairs = enumerate(zip(removed, new, strict=True))
        return [(at + k, old, own, genotype) for k, (old, own) in pairs if old != own]
    if way == "right" and not (removed and new):
        unit = removed or new
        while bases[at + len(removed)] == unit[0] and at < change[0] + 8:
            unit, at = unit[1:] + unit[0], at + 1
        removed, new = (unit, "") if removed else ("", unit)
    before = chance.randrange(1, 4) if way == "before" else int(not removed or not new)
    behind = chance.randrange(1, 4) if way == "behind" else 0
    end = at + len(removed)
    first, last = bases[at - before : at], bases[end : end + behind]
    return [(at - before, first + removed + last, first + new + last, genotype)]


def write(path: Path, bases: str, own: list[Change], chance: random.Random) -> Path:
    rows = [row for change in own for row in spelled(bases, change, chance)]
    rows += chance.sample(rows, min(2, len(rows))) if chance.random() < 0.2 else []
    rows.sort(key=lambda row: row[0] if chance.random() < 0.9 else 0)
    lower = chance.random() < 0.1
    lines = [
        f"c\t{at + 1}\t.\t{ref.lower() if lower else ref}\t{alt}\t9\tPASS\t.\tGT\t{gt}" for at, ref, alt, gt in rows
    ]
    header = ["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts"]
    path.write_text("\n".join([*header, *lines]) + "\n")
    return path


@wild
@given(st.integers(0, 1 << 32), st.sampled_from(["CA" * 8, "A" * 12, "GAT" * 6, ""]))
def test_compare__one_person_in_two_spellings_is_one_person(folder: Path, seed: int, repeat: str) -> None:
    chance = random.Random(seed)
    bases = "".join(chance.choices("ACGT", k=90)) + repeat + "".join(chance.choices("ACGT", k=90))
    reference = write_reference(folder, {"c": bases})
    (folder / "r.bed").write_text(f"c\t0\t{len(bases)}\n")
    own = changes(bases, chance)
    one, other = (write(folder / f"{name}.vcf", bases, own, chance) for name in "ab")
    normalise_labels(one, reference, folder / "n.vcf.gz")
    for truth, calls in ((one, other), (other, one), (folder / "n.vcf.gz", other)):
        found = compare(truth, calls, folder / "r.bed", reference)
        assert (found.all.fn, found.all.fp, found.all.genotype_errors, found.left_out) == (0, 0, 0, {}), own
        assert found.all.tp > 0
