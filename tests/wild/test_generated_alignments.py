"""Alignments of the format's odd corners, written by hypothesis: what samtools mpileup shows, or one line.

Four differences from mpileup are meant, and are left out of the comparison:

- a deletion directly beside an insertion is laid anew (`plain_records`), so CIGARs have no two gaps side by side here;
- an insertion behind a skip (N) has no base beside it, so that nobody can place it: it is no candidate;
- where the reference has no base (R, N), "=" says nothing;
- operations of length zero, behind which mpileup loses its place in the read, and padding, behind which it sees no
  deletion: it gets the file without them.
"""

import os
import random
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pysam
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_generated_files import said_in_one_line

from fedcall.errors import FedcallError
from fedcall.genomics.examples import COUNT_CHANNELS
from fedcall.genomics.pileup.candidates import base_codes
from fedcall.genomics.pileup.count_kernels import count_channels
from fedcall.genomics.pileup.extraction import extract_examples
from fedcall.genomics.reads.alignment_records import Records, fetch_records
from fedcall.genomics.reads.normalise_alignments import normalise_alignments
from fedcall.genomics.reads.plain_records import spell_plainly
from tiny_alignments import write_reference

EXAMPLES = int(os.environ.get("FEDCALL_WILD_EXAMPLES", "40"))
wild = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

CONTIG = "HLA-A*01:01:01:01"
BASES = "".join(random.Random(3).choices("ACGT", k=150)) + "R" + "CA" * 12 + "A" * 9 + "N" * 4
BASES += "".join(random.Random(4).choices("ACGT", k=60))
NOT_COUNTED = 0xF04
KINDS = {
    "bam": ["-b"],
    "cram 3.0": ["--output-fmt", "cram,version=3.0"],
    "cram 3.1": ["--output-fmt", "cram,version=3.1"],
    "cram with its reference": ["--output-fmt", "cram,embed_ref=1"],
    "cram without reference": ["--output-fmt", "cram,no_ref=1"],
}


@dataclass(frozen=True)
class Shown:
    """What reads show at a position: bases (ACGT), deleted bases, insertions and deletions behind it."""

    bases: tuple[int, int, int, int]
    deleted: int
    insertions: int
    deletions: int


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fedcall-wild-") as name:
        write_reference(Path(name), {"decoy": "ACGT" * 20, CONTIG: BASES})
        yield Path(name)


@st.composite
def cigars(draw: st.DrawFn) -> list[tuple[int, str]]:
    """CIGARs of any operations in any order that the specification allows, no two gaps side by side."""
    aligned = st.tuples(st.integers(1, 25), st.sampled_from("MMM=X"))
    gap = st.tuples(st.integers(1, 6), st.sampled_from("IDN"))
    padding = st.tuples(st.integers(0, 3), st.sampled_from("P"))
    empty = st.tuples(st.just(0), st.sampled_from("MIDNS"))
    middle: list[tuple[int, str]] = [draw(aligned)]
    for _ in range(draw(st.integers(0, 3))):
        middle += [draw(gap), draw(aligned)]
    if draw(st.booleans()):
        at = draw(st.integers(0, len(middle)))
        middle[at:at] = [draw(st.one_of(padding, empty))]
    head = draw(st.sampled_from(["", "", "4S", "3H", "2H3S", "2I", "3S2I", "2D"]))
    tail = draw(st.sampled_from(["", "", "5S", "2H", "5S1H", "2I"]))
    around = [[(int(size), kind) for size, kind in re.findall(r"(\d+)(\D)", text)] for text in (head, tail)]
    return [*around[0], *middle, *around[1]]


@st.composite
def reads(draw: st.DrawFn) -> str:
    """One line of SAM without name and mate."""
    cigar = draw(cigars())
    start = draw(st.integers(0, 150))
    # The letters come from a seed: hypothesis would draw them one by one, for minutes.
    letters = random.Random(draw(st.integers(0, 1_000_000)))
    bases, at = [], start
    for size, kind in cigar:
        if kind in "M=X":
            for place in range(at, at + size):
                own = BASES[place] if place < len(BASES) else "A"
                bases.append(letters.choice([own] * 12 + ["=", "ACGT"[place % 4], "N", "R", "T"]))
        elif kind in "IS":
            bases += letters.choices("ACGTN", k=size)
        at += size if kind in "M=XDN" else 0
    if at > len(BASES):
        start = max(0, start - (at - len(BASES)))
    lowest = 10 if any(kind in "ID" for _, kind in cigar) else 0
    qualities = "".join(chr(33 + letters.randint(lowest, 60)) for _ in bases)
    odd = draw(st.sampled_from(["", "", "", "", "", "", "no qualities", "no bases"]))
    text = "".join(f"{size}{kind}" for size, kind in cigar)
    sequence = "*" if odd == "no bases" else "".join(bases)
    flag = draw(st.sampled_from([0, 0, 0, 16, 16, 0x100, 0x800, 0x200, 0x400, 0x4]))
    quality = draw(st.sampled_from([60, 60, 60, 255, 5, 4, 0]))
    columns = (flag, CONTIG, start + 1, quality, text, "*", 0, 0, sequence, "*" if odd else qualities)
    return "\t".join(map(str, columns))


@st.composite
def files(draw: st.DrawFn) -> str:
    names = st.sampled_from(["r", "r", "*", "a b", "x" * 200, "c", "CO"])
    lines = [
        f"{draw(names)}{k if draw(st.booleans()) else ''}\t{read}"
        for k, read in enumerate(draw(st.lists(reads(), min_size=1, max_size=12)))
    ]
    lines.sort(key=lambda line: int(line.split("\t")[3]))
    header = [f"@HD\tVN:1.6\tSO:coordinate\n@SQ\tSN:decoy\tLN:80\n@SQ\tSN:{CONTIG}\tLN:{len(BASES)}"]
    header += draw(
        st.lists(st.sampled_from(["@RG\tID:g\tSM:s", "@CO\tmarkdup\ttruncated", "@PG\tID:x\tCL:/markdup/bwa"]))
    )
    return "\n".join([*dict.fromkeys(header), *(line.replace("a b", "a_b") for line in lines)]) + "\n"


def packed(folder: Path, sam: str, kind: str) -> Path | None:
    """Write and index a file; None where samtools does not take it, or cannot read again what it wrote."""
    text, path = folder / "w.sam", folder / ("w.bam" if kind == "bam" else "w.cram")
    text.write_text(sam)
    for old in folder.glob("w.*am.*"):
        old.unlink()
    try:
        options = [*KINDS[kind], "--reference", str(folder / "reference.fa"), "--no-PG", "-o", str(path)]
        pysam.view(*options, str(text), catch_stdout=False)
        pysam.index(str(path))
        pysam.view("-c", "--reference", str(folder / "reference.fa"), str(path), f"{{{CONTIG}}}")
    except pysam.SamtoolsError:
        return None
    return path


def by_mpileup(path: Path, reference: Path) -> dict[int, Shown]:
    """Read what samtools mpileup says of each position, overlaps of mates left alone."""
    options = ["-B", "-A", "-x", "-Q", "10", "-q", "5", "--ff", hex(NOT_COUNTED), "-d", "0", "-f", str(reference)]
    found = {}
    for line in str(pysam.mpileup(*options, "-r", f"{{{CONTIG}}}", str(path))).splitlines():
        _, position, ref, depth, shown, *_ = line.split("\t")
        if depth == "0":
            continue
        counts: Counter[str] = Counter()
        at, last = 0, ""
        while at < len(shown):
            letter = shown[at]
            at += 2 if letter == "^" else 1
            if letter in "^$":
                continue
            if letter in "+-":
                digits = re.match(r"\d+", shown[at:])
                assert digits
                at += len(digits[0]) + int(digits[0])
                if last not in "<>" or letter == "-":
                    counts[letter] += 1
                continue
            last = letter.upper()
            counts[ref.upper() if letter in ".," else last] += 1
        bases = tuple(counts[base] for base in "ACGT")
        found[int(position) - 1] = Shown(bases, counts["*"], counts["+"], counts["-"])  # type: ignore[arg-type]
    return found


def by_fedcall(records: Records) -> dict[int, Shown]:
    codes = base_codes(BASES)
    records = spell_plainly(records, codes, 0)
    counts = np.zeros((len(BASES), len(COUNT_CHANNELS)), np.int32)
    events = np.empty((records.indels, 4), np.int64)
    count_channels(records.buffer, records.table, np.full(len(records), -1), codes, 0, counts, events)
    both = counts[:, :9] + counts[:, 9:]
    return {
        at: Shown(tuple(row[:4]), row[8], row[4], row[6])  # type: ignore[arg-type]
        for at, row in enumerate(both.tolist())
        if any(row)
    }


def without_empty(cigar: re.Match[str]) -> str:
    """Leave out operations of length zero, and padding."""
    return "".join(part for part in re.findall(r"\d+\D", cigar[0]) if part[:-1].strip("0") and part[-1] != "P")


def without_nothing(found: dict[int, Shown]) -> dict[int, Shown]:
    """Leave out positions where nothing that counts is shown."""
    return {at: shown for at, shown in found.items() if shown != Shown((0, 0, 0, 0), 0, 0, 0)}


@wild
@given(files(), st.sampled_from(list(KINDS)))
def test_alignments__what_mpileup_shows(folder: Path, sam: str, kind: str) -> None:
    path = packed(folder, sam, kind)
    if path is None:
        return
    reference = folder / "reference.fa"
    records = fetch_records(path, reference, CONTIG, 1, 0, len(BASES))
    own = by_fedcall(records)
    plain = packed(folder, re.sub(r"(?<=\t)[0-9A-Z=]+(?=\t\*\t0\t0)", without_empty, sam), "bam")
    assert plain is not None
    assert own == without_nothing(by_mpileup(plain, reference))


@st.composite
def pairs(draw: st.DrawFn) -> str:
    """Fragments whose two reads may overlap, agree or not, begin alike, hold each other, or lack one of them."""
    lines = []
    for number in range(draw(st.integers(1, 6))):
        start, length = draw(st.integers(0, 120)), draw(st.integers(5, 30))
        mate, mate_length = start + draw(st.integers(0, 35)), draw(st.integers(5, 30))
        strands = draw(st.sampled_from([(0x63, 0x93), (0x53, 0xA3), (0x43, 0x83)]))
        letters = random.Random(draw(st.integers(0, 1_000_000)))
        for flag, at, size, other in zip(strands, (start, mate), (length, mate_length), (mate, start), strict=True):
            own = "".join(letters.choice([BASES[at + k]] * 6 + list("ACGN")) for k in range(size))
            qualities = "".join(chr(33 + letters.choice([5, 20, 20, 30, 40])) for _ in own)
            quality = draw(st.sampled_from([60, 60, 60, 60, 0]))
            lines.append(
                f"r{number}\t{flag}\t{CONTIG}\t{at + 1}\t{quality}\t{size}M\t=\t{other + 1}\t0\t{own}\t{qualities}"
            )
    lines.sort(key=lambda line: int(line.split("\t")[3]))
    header = f"@HD\tVN:1.6\tSO:coordinate\n@SQ\tSN:decoy\tLN:80\n@SQ\tSN:{CONTIG}\tLN:{len(BASES)}"
    return "\n".join([header, *lines]) + "\n"


def fragments_by_mpileup(path: Path, reference: Path) -> dict[int, tuple[int, ...]]:
    """Read from samtools mpileup what each read shows, and count of each fragment the better base, ACGT."""
    options = ["-B", "-A", "-x", "-Q", "10", "-q", "5", "--ff", hex(NOT_COUNTED), "-d", "0", "-f", str(reference)]
    found = {}
    columns = str(pysam.mpileup(*options, "--output-extra", "QNAME", "-r", f"{{{CONTIG}}}", str(path)))
    for line in columns.splitlines():
        _, position, ref, depth, shown, qualities, names = line.split("\t")
        if depth == "0":
            continue
        letters = re.sub(r"\^.|\$", "", shown).upper()
        best: dict[str, tuple[int, str]] = {}
        for letter, quality, name in zip(letters, qualities, names.split(","), strict=True):
            base = ref.upper() if letter in ".," else letter
            if base in "ACGT" and (name not in best or ord(quality) > best[name][0]):
                best[name] = (ord(quality), base)
        counts = Counter(base for _, base in best.values())
        if counts:
            found[int(position) - 1] = tuple(counts[base] for base in "ACGT")
    return found


@wild
@given(pairs(), st.sampled_from(list(KINDS)))
def test_pairs__of_each_fragment_the_better_base(folder: Path, sam: str, kind: str) -> None:
    path = packed(folder, sam, kind)
    assert path is not None
    records = fetch_records(path, folder / "reference.fa", CONTIG, 1, 0, len(BASES))
    counts = np.zeros((len(BASES), len(COUNT_CHANNELS)), np.int32)
    events = np.empty((records.indels, 4), np.int64)
    count_channels(records.buffer, records.table, records.mates, base_codes(BASES), 0, counts, events)
    both = (counts[:, :4] + counts[:, 9:13]).tolist()
    own = {at: tuple(row) for at, row in enumerate(both) if any(row)}
    assert own == fragments_by_mpileup(path, folder / "reference.fa")


@wild
@given(files(), st.sampled_from(list(KINDS)))
def test_alignments__every_command_ends_or_says_why(folder: Path, sam: str, kind: str) -> None:
    path = packed(folder, sam, kind)
    if path is None:
        return
    reference = folder / "reference.fa"
    try:
        before = extract_examples(path, reference)
    except FedcallError as error:
        said_in_one_line(error)
        return
    summary = normalise_alignments(path, reference, folder / "n.bam", duplicates="keep")
    assert summary.reads == sum(not line.startswith("@") for line in sam.splitlines())
    after = extract_examples(folder / "n.bam", reference)
    np.testing.assert_array_equal(before.counts, after.counts)
    np.testing.assert_array_equal(before.log_likelihoods, after.log_likelihoods)
