"""People whose haplotypes are known, spelled in the ways in which callers write them; what fedcall makes of the files.

    python tests/wild/generated_haplotypes.py TIMES SEED

Changes of every kind (substitutions of one base and more, insertions, deletions, both at once, in repeats and outside,
one to thirty bases apart) are written trimmed, with bases around them, shifted to the right, split by base, two
neighbours in one record, twice, out of order, in lower case. Of each person it says what differs: whether two spellings
compare as one person, whether `normalise_labels` keeps the haplotypes, and whether a person without one of the changes
compares as another. It also counts in how many files `bcftools norm` spells another haplotype.
"""

import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pysam
import pysam.bcftools

from fedcall.genomics.concordance.comparison import compare
from fedcall.genomics.truth.normalise_labels import normalise_labels
from tiny_alignments import write_reference

REPEATS = ("CA" * 8, "A" * 12, "GAT" * 6, "")

Change = tuple[int, str, str, str]
"""0-based position, bases removed, bases put in, genotype."""
Edit = tuple[int, int, str]
Pair = tuple[str, str]


@dataclass(frozen=True)
class Person:
    """A contig, and what one person has in its place."""

    bases: str
    changes: list[Change]


def person(chance: random.Random, repeat: str, dense: bool) -> Person:
    """Draw a person; dense: changes stand one to twenty bases apart, else twelve to thirty."""
    bases = "".join(chance.choices("ACGT", k=90)) + repeat + "".join(chance.choices("ACGT", k=90))
    sizes = [(1, 1), (3, 3), (0, 2), (0, 4), (4, 0), (1, 0), (2, 1), (1, 3)]
    sizes += [(1, 1), (1, 1), (0, 1), (2, 0)] if dense else []
    found: list[Change] = []
    at = chance.randrange(9, 25)
    while at < len(bases) - 30:
        size, added = chance.choice(sizes)
        removed = bases[at : at + size]
        drawn = "".join(chance.choices("ACGT", k=added))
        new = bases[at : at + added] if size == 0 and chance.random() < 0.5 else drawn
        if new != removed:
            found.append((at, removed, new, chance.choice(["0|1", "1|0", "1|1"])))
        at += size + chance.choice([1, 2, 3, 5, 8, 12, 20] if dense else [12, 20, 30])
    return Person(bases, found)


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


def records(own: Person, chance: random.Random) -> list[Change]:
    """All changes as records that spell the person's haplotypes, in no order."""
    for _ in range(20):
        changes = list(own.changes)
        for k in range(len(changes) - 2, -1, -1):
            (at, removed, new, genotype), (behind, *other, same) = changes[k : k + 2]
            between = own.bases[at + len(removed) : behind]
            ref, alt = removed + between + other[0], new + between + other[1]
            # Two that cancel are no record; what nobody called raises nobody's recall (test_published_cases).
            if same == genotype and behind - at < 12 and ref != alt and chance.random() < 0.3:
                changes[k : k + 2] = [(at, ref, alt, genotype)]
        rows = [row for change in changes for row in spelled(own.bases, change, chance)]
        if haplotypes(own.bases, rows) == haplotypes(own.bases, own.changes):
            break
    else:  # one that was shifted to the right runs into its neighbour each time
        rows = [(at - 1, own.bases[at - 1] + old, own.bases[at - 1] + new, gt) for at, old, new, gt in own.changes]
    return rows + (chance.sample(rows, min(2, len(rows))) if chance.random() < 0.2 else [])


def write(path: Path, rows: Sequence[Change], chance: random.Random) -> Path:
    """Write records as a VCF, one in ten out of order or in lower case."""
    in_order = chance.random() < 0.9
    rows = sorted(rows, key=lambda row: row[0] if in_order else -row[0])
    lower = chance.random() < 0.1
    lines = [
        f"c\t{at + 1}\t.\t{ref.lower() if lower else ref}\t{alt}\t9\tPASS\t.\tGT\t{gt}" for at, ref, alt, gt in rows
    ]
    header = ["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts"]
    path.write_text("\n".join([*header, *lines]) + "\n")
    return path


def haplotypes(bases: str, rows: Sequence[Change]) -> tuple[str | None, str | None]:
    """Spell what phased records say; None for a haplotype on which two of them change the same bases."""
    return tuple(  # type: ignore[return-value]
        _spell(bases, {_trimmed(row) for row in rows if row[3].split("|")[copy] == "1"}) for copy in (0, 1)
    )


def _trimmed(row: Change) -> Edit:
    at, ref, alt, _ = row
    shortest, before, behind = min(len(ref), len(alt)), 0, 0
    while before < shortest and ref[before] == alt[before]:
        before += 1
    while before + behind < shortest and ref[-1 - behind] == alt[-1 - behind]:
        behind += 1
    return at + before, at + len(ref) - behind, alt[before : len(alt) - behind]


def _spell(bases: str, edits: set[Edit]) -> str | None:
    spelled, at, previous = "", 0, (-1, -1)
    for start, end, new in sorted(edits):
        if start < at or (start, end) == previous:
            return None
        spelled, at = spelled + bases[at:start] + new, end
        previous = (start, end) if start == end else (-1, -1)
    return spelled + bases[at:]


def pairs(own: Person) -> set[Pair]:
    """Return every pair of haplotypes that the changes can be phased to."""
    turned = {"0|1": "1|0", "1|0": "0|1"}
    found = set()
    for phases in product((False, True), repeat=sum(row[3] in turned for row in own.changes)):
        draw = iter(phases)
        rows = [(*row[:3], turned[row[3]] if row[3] in turned and next(draw) else row[3]) for row in own.changes]
        spelling = haplotypes(own.bases, rows)
        if None not in spelling:
            found.add(tuple(sorted(str(one) for one in spelling)))
    return found  # type: ignore[return-value]


def read(path: Path) -> list[Change]:
    """Read what a file of one alternative allele a record says."""
    with pysam.VariantFile(str(path)) as variants:
        return [
            (row.start, str(row.ref), row.alts[0], "|".join(str(copy) for copy in row.samples[0]["GT"]))
            for row in variants
            if row.alts
        ]


def by_bcftools(folder: Path, own: Person, rows: Sequence[Change]) -> list[Change]:
    """Return the records as `bcftools norm` leaves them."""
    lines = [f"c\t{at + 1}\t.\t{ref}\t{alt}\t9\tPASS\t.\tGT\t{gt}" for at, ref, alt, gt in sorted(rows)]
    header = ["##fileformat=VCFv4.2", f"##contig=<ID=c,length={len(own.bases)}>"]
    header += ['##FORMAT=<ID=GT,Number=1,Type=String,Description="x">']
    columns = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts"
    (folder / "sorted.vcf").write_text("\n".join([*header, columns, *lines]) + "\n")
    files = "-f", str(folder / "reference.fa"), "-o", str(folder / "norm.vcf"), str(folder / "sorted.vcf")
    pysam.bcftools.norm("-Ov", *files, catch_stdout=False)
    return read(folder / "norm.vcf")


def faults(folder: Path, seed: int, repeat: str, dense: bool) -> tuple[list[str], bool]:
    """Return what fedcall makes wrong of one person's files, and whether `bcftools norm` spells another haplotype."""
    chance = random.Random(seed)
    own = person(chance, repeat, dense)
    reference = write_reference(folder, {"c": own.bases})
    (folder / "r.bed").write_text(f"c\t0\t{len(own.bases)}\n")
    spellings = [records(own, chance) for _ in "ab"]
    one, other = (write(folder / f"{name}.vcf", rows, chance) for name, rows in zip("ab", spellings, strict=True))
    normalised = folder / "n.vcf.gz"
    normalise_labels(one, reference, normalised)
    found = []
    if haplotypes(own.bases, read(normalised)) != haplotypes(own.bases, own.changes):
        found.append("normalised: another haplotype")
    for truth, calls in ((one, other), (other, one), (normalised, other)):
        all_ = (said := compare(truth, calls, folder / "r.bed", reference)).all
        if (all_.fn, all_.fp, all_.genotype_errors, said.left_out) != (0, 0, 0, {}) or all_.tp == 0:
            found.append(f"{truth.name} against {calls.name}: {all_.fn} FN, {all_.fp} FP, {all_.genotype_errors} other")
    without = chance.randrange(len(own.changes))
    lacking = Person(own.bases, own.changes[:without] + own.changes[without + 1 :])
    less = write(folder / "less.vcf", records(lacking, chance), chance)
    counts = compare(normalised, less, folder / "r.bed", reference).all
    heterozygous = sum(row[3] != "1|1" for row in own.changes)
    if counts.fn + counts.fp + counts.genotype_errors == 0 and heterozygous < 12 and not pairs(own) & pairs(lacking):
        found.append(f"without {own.changes[without]}: taken for the same person")
    return found, haplotypes(own.bases, by_bcftools(folder, own, spellings[0])) != haplotypes(own.bases, own.changes)


def main(times: int, seed: int) -> int:
    """Print what differs, and return 1 if anything does."""
    chance, faulty, moved = random.Random(seed), 0, Counter[bool]()
    with tempfile.TemporaryDirectory(prefix="fedcall-wild-") as name:
        for _ in range(times):
            drawn = chance.randrange(1 << 32), chance.choice(REPEATS), chance.random() < 0.5
            found, by_norm = faults(Path(name), *drawn)
            moved[by_norm] += 1
            if found:
                faulty += 1
                print(f"{drawn}: {'; '.join(found)}", flush=True)
    print(f"{times} people, seed {seed}: {faulty} with a difference; bcftools norm: {moved[True]} other haplotypes")
    return int(faulty > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
