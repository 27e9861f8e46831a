"""Local reassembly: lay tangled reads along haplotypes spelled by the reads themselves.

Where tandem repeats differ, an aligner spells one change as pairs of gaps that differ from read to read, and no CIGAR
holds the true alleles. A de Bruijn graph of the reads there does (the idea of GATK's HaplotypeCaller, Poplin et al.
2018, and of ABRA2, Mose et al. 2019). The two haplotypes that explain the reads best are laid on the reference, the
reads along them, and everything behind (counts, candidates, evidence) sees the new alignments only.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from fedcall.genomics.alleles import MAX_INDEL_LENGTH
from fedcall.genomics.pileup import reassembly_kernels as kernels
from fedcall.genomics.pileup.assembly import assemble
from fedcall.genomics.reads import record_fields as fields
from fedcall.genomics.reads.alignment_records import Records

TOGETHER = 20
"""Two gaps of one read with no more aligned bases between them are often one change in other words."""
LEAST_CLIPPED = 10
"""Ends of reads with this many good clipped bases, the same ones at the same place, may hold an indel too long for the
aligner."""
MIN_READS = 3
MIN_SHARE = 0.1
"""Reads of a place that must be tangled, and their share of all reads there."""
LONGEST_REGION = 200
MOST_READS = 2_000
LONGEST_READ = 500
REACH = 1_500
"""Alignments do not depend on reads further away than this from where they lie."""
_PADDING = 10
_GROWTH = 100
_OUTLIER = 80
"""Phred: a read is never less probable than this under a haplotype; it may come from elsewhere."""
_NEW_HAPLOTYPE = 40
"""Phred by which a haplotype unlike the reference must explain all reads better."""
_UNIQUE = 10
"""Phred by which a read must fit its place in a haplotype better than any other."""
_EXPLAINED = 0.7
"""Share of the tangled reads that must fit the haplotypes chosen."""


@dataclass(frozen=True)
class _Reads:
    """The reads of a region, spelled out; n reads."""

    rows: np.ndarray
    bases: np.ndarray
    qualities: np.ndarray
    lengths: np.ndarray
    starts: np.ndarray
    tangled: np.ndarray

    @property
    def limits(self) -> np.ndarray:
        """Phred up to which a read fits: about one sequencing error per hundred bases, and one more."""
        return 40 + self.lengths // 5


def reassemble(records: Records, reference: np.ndarray, start: int) -> Records:
    """Realign reads whose gaps are tangled, and those around them, where assembled haplotypes explain them.

    Parameters
    ----------
    reference : uint8, 0..3 = ACGT, 4 = other; from position `start` on

    Returns
    -------
    The same reads, some with another alignment and settled.
    """
    laid: list[tuple[int, int, np.ndarray]] = []
    for first, behind, tangled in _regions(records):
        reads = _reads_at(records, first, behind, tangled)
        if reads is not None:
            laid += _lay(reads, reference, start, first, behind)
    return _rewritten(records, laid) if laid else records


def _regions(records: Records) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield first position, position behind the last and the records in question of each place with enough of them."""
    clipped = _listed(kernels.clipped_reads, records, LEAST_CLIPPED)
    _, same, reads = np.unique(clipped[:, 2:], axis=0, return_inverse=True, return_counts=True)
    tangled = _listed(kernels.tangled_reads, records, TOGETHER)
    for found, around in ((clipped[reads[same] > 1], MAX_INDEL_LENGTH), (tangled, 0)):
        found = found[np.argsort(found[:, 1], kind="stable")]
        cuts = np.flatnonzero(found[1:, 1] > np.maximum.accumulate(found[:, 2])[:-1] + TOGETHER) + 1
        for begin, end in zip([0, *cuts.tolist()], [*cuts.tolist(), len(found)], strict=True):
            if end - begin < MIN_READS:
                continue
            group = found[begin:end]
            rows = np.unique(group[:, 0])
            if len(rows) >= MIN_READS:
                first, behind = int(group[0, 1]) - around, int(group[:, 2].max()) + around
                if behind - first <= LONGEST_REGION:
                    yield first, behind, rows


def _listed(kernel: Callable[..., int], records: Records, least: int) -> np.ndarray:
    out = np.empty((max(64, len(records) // 20), 4), np.int64)
    arguments = records.buffer, records.table, least, LONGEST_READ
    found = kernel(*arguments, out)
    if found > len(out):
        out = np.empty((found, 4), np.int64)
        kernel(*arguments, out)
    return out[:found]


def _reads_at(records: Records, first: int, behind: int, tangled: np.ndarray) -> _Reads | None:
    """Return the reads that touch a region with their clipped ends, or None where they are too few or too many."""
    limits = first - 2 * LONGEST_READ, behind + LONGEST_READ
    begin, end = np.searchsorted(records.table[:, fields.POSITION], limits)
    table = records.table[begin:end]
    starts = table[:, fields.POSITION] - table[:, fields.HEAD]
    near = (starts < behind + _PADDING) & (table[:, fields.END] + table[:, fields.TAIL] > first - _PADDING)
    own = np.flatnonzero(near & (table[:, fields.CIGAR_OPS] > 0) & (table[:, fields.LENGTH] <= LONGEST_READ))
    rows = own + begin
    if len(rows) > MOST_READS or len(tangled) < MIN_SHARE * len(rows):
        return None
    lengths = table[own, fields.LENGTH]
    bases, qualities = (np.zeros((len(rows), lengths.max()), np.uint8) for _ in range(2))
    kernels.spell_reads(records.buffer, table, own, bases, qualities)
    return _Reads(rows, bases, qualities, lengths, starts[own], np.isin(rows, tangled))


def _lay(
    reads: _Reads, reference: np.ndarray, start: int, first: int, behind: int
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield record, position and CIGAR of the reads that an assembled haplotype explains."""
    assembled = assemble(reads.bases, reads.qualities, reads.lengths, reference, first - start, behind - start)
    if assembled is None:
        return
    low, high, paths = assembled
    left, right = reference[max(0, low - LONGEST_READ) : low], reference[high : high + LONGEST_READ]
    cores = [reference[low:high], *paths]
    costs, places, sure = (np.empty((len(cores), len(reads.rows)), np.int64) for _ in range(3))
    expected = reads.starts - start - (low - len(left))
    for h, core in enumerate(cores):
        haplotype = np.concatenate([left, core, right])
        kernels.place_reads(
            reads.bases,
            reads.qualities,
            reads.lengths,
            expected,
            _GROWTH,
            haplotype,
            _UNIQUE,
            costs[h],
            places[h],
            sure[h],
        )
    pair = _best_pair(costs)
    fits = costs[list(pair)].min(0) <= reads.limits
    if pair == (0, 0) or fits[reads.tangled].mean() < _EXPLAINED:
        return
    # A read that fits two of them equally well is laid along the first.
    chosen = list(dict.fromkeys((0, *pair)))
    best = costs[chosen].argmin(0)
    for number, h in enumerate(chosen):
        stands = kernels.align_haplotype(cores[h], reference[low:high])
        where = np.concatenate(
            [
                np.arange(low - len(left), low),
                np.where(stands >= 0, stands + low, -1),
                np.arange(high, high + len(right)),
            ]
        )
        own = np.flatnonzero((best == number) & (costs[h] <= reads.limits) & (sure[h] > 0))
        cigars = np.empty((len(own), 2 * reads.bases.shape[1] + 2), np.uint32)
        sizes = kernels.write_cigars(where, places[h, own], reads.lengths[own], cigars)
        firsts = np.append(where, -1)[places[h, own] + (cigars[:, 0] >> 4) * (cigars[:, 0] & 15 == fields.SOFT_CLIP)]
        for k, read in enumerate(own):
            if firsts[k] >= 0:
                yield int(reads.rows[read]), int(firsts[k]) + start, cigars[k, : sizes[k]]


def _best_pair(costs: np.ndarray) -> tuple[int, int]:
    """Return the two haplotypes, which may be equal, under which the reads are most probable; 0 is the reference."""
    probability = 10.0 ** (-np.minimum(costs, _OUTLIER) / 10.0)
    count = len(costs)
    pairs = [(a, b) for a in range(count) for b in range(a, count)]
    scores = [
        np.log10(0.5 * (probability[a] + probability[b])).sum() * 10 - _NEW_HAPLOTYPE * len({a, b} - {0})
        for a, b in pairs
    ]
    return pairs[int(np.argmax(scores))]


def _rewritten(records: Records, laid: list[tuple[int, int, np.ndarray]]) -> Records:
    """Return the records with new positions and CIGARs, which are put behind the buffer; the last of a read counts."""
    last = {row: (position, cigar) for row, position, cigar in laid}
    rows, positions = np.array([(row, position) for row, (position, _) in last.items()], np.int64).T
    cigars = [cigar for _, cigar in last.values()]
    sizes = np.array([len(cigar) for cigar in cigars])
    flat = np.concatenate(cigars)
    operation, length = flat & 15, (flat >> 4).astype(np.int64)
    ends = np.cumsum(sizes)
    begins = ends - sizes
    table, settled = records.table.copy(), records.settled.copy()
    on_reference = np.where((operation == fields.MATCH) | (operation == fields.DELETION), length, 0)
    table[rows, fields.POSITION] = positions
    table[rows, fields.END] = positions + np.add.reduceat(on_reference, begins)
    table[rows, fields.CIGAR] = len(records.buffer) + 4 * begins
    table[rows, fields.CIGAR_OPS] = sizes
    clipped = np.where(operation == fields.SOFT_CLIP, length, 0)
    table[rows, fields.HEAD], table[rows, fields.TAIL] = clipped[begins], clipped[ends - 1]
    settled[rows] = True
    indels = records.indels + int(((operation == fields.INSERTION) | (operation == fields.DELETION)).sum())
    buffer = records.extended(flat.astype("<u4").view(np.uint8))
    return replace(records, buffer=buffer, table=table, indels=indels, settled=settled)
