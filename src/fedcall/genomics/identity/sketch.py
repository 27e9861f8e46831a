"""A sketch of one person: what the reads show in windows of the genome that all sketches share, and which reads.

A sketch tells genotypes and so is as private as reads: it is written for its owner alone (mode 0600, folder 0700), and
its place is a hospital's `private` folder.
"""

import hashlib
import hmac
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedcall.errors import FedcallError
from fedcall.files import sync, write_for_owner
from fedcall.genomics.identity.sketch_kernels import hash_reads, sum_bases
from fedcall.genomics.pileup.extraction import spans_of
from fedcall.genomics.reads.alignment_records import fetch_records
from fedcall.genomics.reads.opening import header_contigs, open_alignments
from fedcall.genomics.reads.workspace import Workspace
from fedcall.genomics.shards import Span
from fedcall.genomics.side_by_side import side_by_side

WINDOW_BASES = 2_000
"""Windows lie on this grid of every contig, so that sketches of different regions have them in common."""
BUDGET_BASES = 2_000_000
"""Of larger regions every second window is looked at, every fourth, and so on, until so many bases are left."""
READS = 4_096
"""Reads whose hashes are kept, those with the smallest hashes: the same reads of two files are then in both."""
_QUALITY_CAP = 40
_FORMAT = "fedcall.sketch/1"
_BLOCK, _BLOCKS = 1 << 16, 64


@dataclass(frozen=True)
class Sketch:
    """What one person's reads show.

    Attributes
    ----------
    contigs : names with lengths, "NAME:LENGTH"
    windows : int64, shape (w, 3)
        Row of `contigs`, start, end (0-based, half open); sorted, apart from each other.
    counts : uint16, shape (p, 4)
        Reads that show A, C, G, T at each position of the windows, joined.
    qualities : uint16, shape (p, 4)
        Sums of their qualities, Phred.
    reads : uint64, shape (2, READS) or fewer columns
        The smallest hashes of the windows' reads by name and sequence, and by sequence and qualities.
    """

    contigs: tuple[str, ...]
    windows: np.ndarray
    counts: np.ndarray
    qualities: np.ndarray
    reads: tuple[np.ndarray, np.ndarray]

    @property
    def positions(self) -> int:
        """How many bases were looked at."""
        return len(self.counts)


def make_sketch(alignments: Path, reference: Path, regions: Path | None = None) -> Sketch:
    """Sum up the reads of one person in at most about `BUDGET_BASES` bases of the regions.

    Parameters
    ----------
    alignments : BAM or CRAM, sorted and indexed
    reference : indexed FASTA
    regions : BED; without it, all contigs that alignments and reference share

    Raises
    ------
    FedcallError
        If files do not belong together, lack their index, or are damaged.
    """
    spans = choose_windows(spans_of(alignments, reference, regions))
    with open_alignments(alignments, reference) as handle:
        known = header_contigs(handle)
    names = list(dict.fromkeys(contig for contig, _, _ in spans))
    numbers = {name: place for place, name in enumerate(known)}
    total = sum(end - start for _, start, end in spans)
    counts, qualities = np.zeros((total, 4), np.uint16), np.zeros((total, 4), np.uint16)
    hashes: list[list[np.ndarray]] = [[], []]
    workspace, done = Workspace(), 0
    for contig, start, end in spans:
        records = fetch_records(alignments, reference, contig, numbers[contig], start, end, workspace=workspace)
        here = slice(done, done + end - start)
        sum_bases(records.buffer, records.table, records.mates, start, _QUALITY_CAP, counts[here], qualities[here])
        found = np.empty((2, len(records)), np.uint64)
        hash_reads(records.buffer, records.table, found)
        for kind in (0, 1):
            hashes[kind].append(_smallest(found[kind]))
        done += end - start
    windows = np.array([(names.index(contig), start, end) for contig, start, end in spans], np.int64)
    reads = [_smallest(np.concatenate(kind)) if kind else np.empty(0, np.uint64) for kind in hashes]
    contigs = tuple(f"{name}:{known[name]}" for name in names)
    return Sketch(contigs, windows.reshape(-1, 3), counts, qualities, (reads[0], reads[1]))


def choose_windows(regions: Sequence[Span]) -> list[Span]:
    """Return the parts of the regions that are looked at: all of small ones, else those in every 2^k-th window.

    The windows of a larger k are among those of a smaller, so sketches of large and small regions share some.
    """
    total, step = sum(end - start for _, start, end in regions), 1
    while total / step > BUDGET_BASES:
        step *= 2
    chosen: list[Span] = []
    for contig, start, end in regions:
        first = start // WINDOW_BASES
        for number in range(first + -first % step, (end - 1) // WINDOW_BASES + 1, step):
            low, high = max(start, number * WINDOW_BASES), min(end, (number + 1) * WINDOW_BASES)
            if chosen and chosen[-1][0] == contig and chosen[-1][2] == low:
                chosen[-1] = (contig, chosen[-1][1], high)
            else:
                chosen.append((contig, low, high))
    return chosen


class SketchFolder:
    """A hospital's sketches, kept by keyed fingerprints of the alignments they were made from; no names are in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def sketches(self, people: Sequence[tuple[Path, Path, Path | None]], threads: int = 1) -> list[tuple[str, Sketch]]:
        """Return names and sketches of (alignments, reference, regions), made where they are not kept yet.

        Raises
        ------
        FedcallError
            As `make_sketch`.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.chmod(0o700)
        key = self._key()
        names = [_fingerprint(key, alignments, regions) for alignments, _, regions in people]
        missing = {name: person for name, person in zip(names, people, strict=True) if not self._file(name).exists()}
        jobs = [(self._file(name), person) for name, person in missing.items()]
        side_by_side(_make_and_keep, jobs, threads)
        return [(name, read_sketch(self._file(name))) for name in names]

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.npz"

    def _key(self) -> bytes:
        path = self.folder / "key"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return path.read_bytes()
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(key := os.urandom(32))
        sync(path)
        return key


def write_sketch(path: Path, sketch: Sketch) -> None:
    """Write a sketch whole or not at all, for its owner alone."""
    content = io.BytesIO()
    np.savez_compressed(
        content,
        format=np.array(_FORMAT),
        contigs=np.array(sketch.contigs),
        windows=sketch.windows,
        counts=sketch.counts,
        qualities=sketch.qualities,
        named=sketch.reads[0],
        unnamed=sketch.reads[1],
    )
    write_for_owner(path, content.getvalue())


def read_sketch(path: Path) -> Sketch:
    """Read what `write_sketch` wrote; FedcallError naming the file otherwise."""
    try:
        with np.load(path, allow_pickle=False) as content:
            if str(content["format"]) != _FORMAT:
                raise FedcallError(f"{path}: a sketch of another version; delete it, it is made again")
            contigs = tuple(str(name) for name in content["contigs"])
            columns = [content[name] for name in ("windows", "counts", "qualities", "named", "unnamed")]
    except (OSError, ValueError, KeyError):
        raise FedcallError(f"{path}: not a readable sketch; delete it, it is made again") from None
    windows, counts, qualities, named, unnamed = columns
    return Sketch(contigs, windows, counts, qualities, (named, unnamed))


def _make_and_keep(workspace: Workspace, job: tuple[Path, tuple[Path, Path, Path | None]]) -> None:
    file, person = job
    write_sketch(file, make_sketch(*person))


def _smallest(hashes: np.ndarray) -> np.ndarray:
    return np.unique(hashes[hashes > 0])[:READS]


def _fingerprint(key: bytes, alignments: Path, regions: Path | None) -> str:
    """Return the keyed digest of a file's length and of blocks spread evenly over it, and of the regions."""
    digest = hmac.new(key, _FORMAT.encode(), hashlib.sha256)
    size = alignments.stat().st_size
    digest.update(size.to_bytes(8, "big"))
    with open(alignments, "rb") as handle:
        for number in range(_BLOCKS + 1):
            handle.seek(max(0, (size - _BLOCK) * number // _BLOCKS))
            digest.update(handle.read(_BLOCK))
    digest.update(regions.read_bytes() if regions is not None else b"")
    return digest.hexdigest()[:40]
