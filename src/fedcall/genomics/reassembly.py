"""Local reassembly: lay tangled reads along haplotypes spelled by the reads themselves.

Where tandem repeats differ, an aligner spells one change as pairs of gaps that differ from read to read, and no CIGAR
holds the true alleles. A de Bruijn graph of the reads there does (the idea of GATK's HaplotypeCaller, Poplin et al.
2018, and of ABRA2, Mose et al. 2019). The two haplotypes that explain the reads best are laid on the reference, the
reads along them, and everything behind (counts, candidates, evidence) sees the new alignments only.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from fedcall.genomics import reassembly_kernels as kernels
from fedcall.genomics import record_fields as fields
from fedcall.genomics.alignment_records import Records
from fedcall.genomics.assembly import assemble

TOGETHER = 20
"""Two gaps of one read with no more aligned bases between them are often one change in other words."""
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
    """Yield first position, position behind the last and tangled records of each place with enough of them."""
    pairs = np.empty((max(64, len(records) // 50), 3), np.int64)
    arguments = records.buffer, records.table, TOGETHER, LONGEST_READ
    found = kernels.tangled_reads(*arguments, pairs)
    if found > len(pairs):
        pairs = np.empty((found, 3), np.int64)
        kernels.tangled_reads(*arguments, pairs)
    pairs = pairs[:found][np.argsort(pairs[:found, 1], kind="stable")]
    if not found:
        return
    ends = np.maximum.accumulate(pairs[:, 2])
    cuts = np.flatnonzero(pairs[1:, 1] > ends[:-1] + TOGETHER) + 1
    for group in np.split(pairs, cuts):
        first, behind, rows = int(group[0, 1]), int(group[:, 2].max()), np.unique(group[:, 0])
        if len(rows) >= MIN_READS and behind - first <= LONGEST_REGION:
            yield first, behind, rows


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
    stretch = first - start, behind - start
    for low, high, paths in assemble(reads.bases, reads.qualities, reads.lengths, reference, *stretch):
        margin = LONGEST_READ
        left, right = reference[max(0, low - margin) : low], reference[high : high + margin]
        plain = np.concatenate([left, reference[low:high], right])
        haplotypes = [plain, *(np.concatenate([left, path, right]) for path in paths)]
        expected = reads.starts - start - (low - len(left))
        costs, places, others = (np.empty((len(haplotypes), len(reads.rows)), np.int64) for _ in range(3))
        for h, haplotype in enumerate(haplotypes):
            kernels.place_reads(
                reads.bases,
                reads.qualities,
                reads.lengths,
                expected,
                _GROWTH,
                haplotype,
                costs[h],
                places[h],
                others[h],
            )
        pair = _best_pair(costs)
        fits = costs[list(pair)].min(0) <= reads.limits
        if pair == (0, 0) or fits[reads.tangled].mean() < _EXPLAINED:
            continue
        chosen = list(dict.fromkeys((0, *pair)))
        best = costs[chosen].argmin(0)
        for number, h in enumerate(chosen):
            stands = kernels.align_haplotype(
                haplotypes[h][len(left) : len(haplotypes[h]) - len(right)], reference[low:high]
            )
            where = np.concatenate(
                [
                    np.arange(low - len(left), low),
                    np.where(stands >= 0, stands + low, -1),
                    np.arange(high, high + len(right)),
                ]
            )
            sure = (best == number) & (costs[h] <= reads.limits) & (others[h] >= costs[h] + _UNIQUE)
            for read in np.flatnonzero(sure):
                place = places[h, read]
                position, cigar = _cigar(where[place : place + reads.lengths[read]])
                if position >= 0:
                    yield int(reads.rows[read]), position + start, cigar
        return


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


def _cigar(where: np.ndarray) -> tuple[int, np.ndarray]:
    """Return position and CIGAR (BAM's numbers) of a read whose bases stand at places of the reference, -1: inserted.

    The position is -1 if no base is aligned.
    """
    aligned = np.flatnonzero(where >= 0)
    if len(aligned) == 0:
        return -1, np.empty(0, np.uint32)
    head, tail = int(aligned[0]), len(where) - 1 - int(aligned[-1])
    operations: list[list[int]] = [[4, head]] if head else []
    before = int(where[head]) - 1
    for place in where[head : len(where) - tail].tolist():
        if place > before + 1:
            operations.append([2, place - before - 1])
        kind = 1 if place < 0 else 0
        if operations and operations[-1][0] == kind:
            operations[-1][1] += 1
        else:
            operations.append([kind, 1])
        before = place if place >= 0 else before
    if tail:
        operations.append([4, tail])
    return int(where[head]), np.array([size << 4 | kind for kind, size in operations], np.uint32)


def _rewritten(records: Records, laid: list[tuple[int, int, np.ndarray]]) -> Records:
    """Return the records with new positions and CIGARs, which are put behind the buffer."""
    table, settled, size = records.table.copy(), records.settled.copy(), len(records.buffer)
    for row, position, cigar in laid:
        operation, length = cigar & 15, (cigar >> 4).astype(np.int64)
        table[row, fields.POSITION] = position
        table[row, fields.END] = position + length[(operation == 0) | (operation == 2)].sum()
        table[row, fields.CIGAR], table[row, fields.CIGAR_OPS] = size, len(cigar)
        table[row, fields.HEAD] = length[0] if operation[0] == 4 else 0
        table[row, fields.TAIL] = length[-1] if operation[-1] == 4 else 0
        settled[row] = True
        size += 4 * len(cigar)
    added = np.concatenate([cigar for _, _, cigar in laid]).astype("<u4").view(np.uint8)
    indels = records.indels + sum(int(((cigar & 15) - 1 < 2).sum()) for _, _, cigar in laid)
    buffer = np.concatenate([records.buffer, added])
    return replace(records, buffer=buffer, table=table, indels=indels, settled=settled)
