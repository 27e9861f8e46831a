"""Turn one patient's alignments into examples, a stretch of the genome at a time."""

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np

from fedcall.genomics.alleles import MAX_SHIFT, without_ambiguity
from fedcall.genomics.base_qualities.applying import Recalibration, reads_digest
from fedcall.genomics.examples import (
    COUNT_CHANNELS,
    WINDOW,
    Examples,
    concatenate,
    empty_examples,
    make_examples,
)
from fedcall.genomics.pileup.candidate_kernels import cut_windows
from fedcall.genomics.pileup.candidates import Candidates, base_codes, find_candidates
from fedcall.genomics.pileup.count_kernels import count_channels, most_reads
from fedcall.genomics.pileup.evidence import ALT, REF, ReadEvidence, collect_evidence
from fedcall.genomics.pileup.evidence_summary import count_neighbours, summarise
from fedcall.genomics.pileup.likelihood import log_likelihoods, repeats
from fedcall.genomics.pileup.realignment import fit_indels
from fedcall.genomics.pileup.reassembly import REACH, reassemble
from fedcall.genomics.reads.alignment_records import Records, fetch_records
from fedcall.genomics.reads.long_reads import refuse_long_reads
from fedcall.genomics.reads.opening import check_alignments, header_contigs, open_alignments
from fedcall.genomics.reads.plain_records import spell_plainly
from fedcall.genomics.reads.short_contigs import contigs_with_reads
from fedcall.genomics.reads.workspace import Workspace
from fedcall.genomics.reference import kept_reference, reference_contigs, shared_contigs
from fedcall.genomics.regions import read_regions
from fedcall.genomics.shards import WHOLE, Shard, Span, cut_regions
from fedcall.genomics.side_by_side import side_by_side
from fedcall.genomics.truth.labels import (
    DOUBT,
    UNKNOWN,
    check_truth,
    count_true_alleles,
    label_candidates,
    label_types,
    read_truth,
    truth_sample,
)
from fedcall.progress import progress

STRETCH_LENGTH = 250_000
"""Bases worked on at once: bounds memory to some 50 MB at 30x, of which most stays in a processor's cache."""
CALL_REACH = 10_000
"""Bases around a shard that its calls look at: overlapping deletions, of at most 50 bases, form no chain so long."""
_JOINED_GAP = 5_000
# A candidate's label and neighbours depend on alleles up to here; those in turn on reads MAX_SHIFT further on.
_AROUND = MAX_SHIFT + DOUBT + 2 * WINDOW
_MARGIN = _AROUND + MAX_SHIFT + WINDOW + REACH
_BEHIND_TRUTH = 1_100
_MOST_SHORT = np.iinfo(np.int16).max // 2
_SHORTEST_SHARE = 200_000
_MANY_STRETCHES = 100
"""Bases below which starting a worker costs more than it saves."""


@dataclass(frozen=True)
class Stretch:
    """A stretch of one contig: regions inside it, and the same before they were cut (0-based, half open, sorted)."""

    contig: str
    regions: tuple[tuple[int, int], ...]
    uncut: tuple[tuple[int, int], ...]

    @property
    def start(self) -> int:
        return self.regions[0][0]

    @property
    def end(self) -> int:
        return self.regions[-1][1]


@dataclass(frozen=True)
class Source:
    """The files of one patient, checked."""

    alignments: Path
    reference: Path
    truth: Path | None
    sample: str | None
    contigs: tuple[str, ...]
    alignment_contigs: tuple[str, ...]
    label_types: Literal["all", "snps"]
    keep: float
    recalibration: Recalibration | None = None

    @cached_property
    def alignment_ranks(self) -> dict[str, int]:
        """Place of each contig in the alignments' header."""
        return {contig: rank for rank, contig in enumerate(self.alignment_contigs)}


def extract_examples(
    alignments: Path,
    reference: Path,
    regions: Path | None = None,
    truth: Path | None = None,
    sample: str | None = None,
    *,
    threads: int = 1,
    stretch_length: int = STRETCH_LENGTH,
    keep: float = 1.0,
    shard: Shard = WHOLE,
    reach: int = 0,
    recalibration: Path | None = None,
) -> Examples:
    """Find and encode the candidates of one patient.

    Parameters
    ----------
    alignments : BAM or CRAM, sorted and indexed
    reference : indexed FASTA
    regions : BED; without it, all contigs that alignments and reference share
    truth : VCF with the patient's genotypes; without it, every label is -1
    sample : the patient's column in `truth`; may be left out if there is one only
    threads : stretches worked on side by side
    stretch_length : bases per stretch; the result does not depend on it
    keep : share of the fragments to look at, in (0, 1]: the patient as a lower depth would show them
    shard : look at this part of the regions only; its rows are those the whole would have there
    reach : bases of the regions around the shard to look at, too
    recalibration : table that `fedcall recalibrate` made from these alignments; without it, or where it leaves the
        reads alone, qualities are those reported

    Returns
    -------
    Examples
        In the order of the reference; a row's position lies inside `regions`.

    Raises
    ------
    FedcallError
        If files do not belong together, lack their index, or are damaged.
    """
    alignments, reference = Path(alignments), Path(reference)
    lengths = reference_contigs(reference)
    spans = spans_of(alignments, reference, regions)
    with open_alignments(alignments, reference) as handle:
        known = header_contigs(handle)
    if truth is not None:
        check_truth(Path(truth), reference)
    source = Source(
        alignments,
        reference,
        Path(truth) if truth is not None else None,
        truth_sample(truth, sample) if truth is not None else sample,
        tuple(dict.fromkeys(contig for contig, _, _ in spans)),
        tuple(known),
        label_types(truth) if truth is not None else "all",
        keep,
        _recalibration(recalibration, alignments),
    )
    pieces = cut_regions(spans, shard, reach)
    if threads > 1:
        # Several stretches a worker, so that none waits long for the last.
        share = sum(end - start for (_, start, end), _ in pieces) // (4 * threads)
        stretch_length = min(stretch_length, max(_SHORTEST_SHARE, share))
    stretches = _with_reads(source, make_stretches(pieces, stretch_length))
    parts = _extract_all(source, stretches, threads)
    examples = concatenate([part for part in parts if len(part)] or [empty_examples()])
    return replace(examples, metadata=_metadata(source, spans, lengths, examples, shard))


def spans_of(alignments: Path, reference: Path, regions: Path | None) -> list[Span]:
    """Return the regions of a BED file, or the contigs that alignments and reference share, after checking both.

    Long reads are refused (`long_reads`).
    """
    spans = read_regions(regions, reference) if regions is not None else None
    check_alignments(alignments, reference, {contig for contig, _, _ in spans} if spans is not None else None)
    refuse_long_reads(alignments, reference)
    if spans is not None:
        return spans
    lengths = reference_contigs(reference)
    with open_alignments(alignments, reference) as handle:
        names = shared_contigs(alignments, header_contigs(handle), reference)
    return [(name, 0, lengths[name]) for name in names]


def make_stretches(pieces: Sequence[tuple[Span, Span]], length: int) -> list[Stretch]:
    """Cut pieces of regions into stretches of at most `length` bases; small ones close to each other share one.

    Parameters
    ----------
    pieces : from `shards.cut_regions`
    """
    stretches: list[Stretch] = []
    for (contig, start, end), (_, *uncut) in pieces:
        region = (uncut[0], uncut[1])
        for first in range(start, end, length):
            piece = (first, min(end, first + length))
            last = stretches[-1] if stretches else None
            near = last is not None and last.contig == contig and piece[0] - last.end <= _JOINED_GAP
            if last is not None and near and piece[1] - last.start <= length:
                stretches[-1] = Stretch(contig, (*last.regions, piece), (*last.uncut, region))
            else:
                stretches.append(Stretch(contig, (piece,), (region,)))
    return stretches


def extract_stretch(source: Source, workspace: Workspace, stretch: Stretch) -> Examples:
    """Encode the candidates of one stretch."""
    start = max(0, stretch.start - _MARGIN)
    fasta = kept_reference(source.reference)
    end = min(fasta.get_reference_length(stretch.contig), stretch.end + _MARGIN)
    contig_index = source.alignment_ranks[stretch.contig]
    span = (stretch.contig, contig_index, start, end)
    records = fetch_records(source.alignments, source.reference, *span, source.keep, workspace)
    if len(records) == 0:  # as on most of a thousand contigs: nothing else is read for it
        return _nothing()
    sequence = fasta.fetch(stretch.contig, start, stretch.end + _MARGIN + _BEHIND_TRUTH).upper()
    if not sequence.strip("N"):
        return _nothing()
    covered = sequence[: end - start]
    reference = base_codes(covered)
    records = spell_plainly(records, reference, start)
    if source.recalibration is not None:
        source.recalibration.apply(records, reference, start)
    records = reassemble(records, reference, start)
    counts = _no_counts(workspace, records, start, end)
    events = np.empty((records.indels, 4), np.int64)
    found = count_channels(records.buffer, records.table, records.mates, reference, start, counts, events)
    around = (stretch.start - _AROUND, stretch.end + _AROUND)
    everything = find_candidates(counts, events[:found], records, covered, reference, start, around)
    labels = _label(source, stretch, everything, sequence, start)
    others = count_neighbours(everything.position)
    rows = np.flatnonzero(_inside(everything.position, stretch.regions))
    fits = fit_indels(records, everything, reference, start).take(rows)
    candidates = everything.take(rows)
    evidence = collect_evidence(records, candidates, fits, counts, reference, start)
    return _encode(evidence, candidates, counts, reference, start, labels[rows], others[rows], stretch.contig)


def _no_counts(workspace: Workspace, records: Records, start: int, end: int) -> np.ndarray:
    """Return zeros, shape (end - start, 18), of a type that holds as many reads as lie anywhere in [start, end)."""
    are_few = most_reads(records.table, start, end) <= _MOST_SHORT
    counts = (workspace.short_counts if are_few else workspace.counts).take(end - start)[: end - start]
    counts[:] = 0
    return counts


@lru_cache(maxsize=1)
def _nothing() -> Examples:
    return empty_examples()


def _recalibration(path: Path | None, alignments: Path) -> Recalibration | None:
    if path is None:
        return None
    from fedcall.genomics.base_qualities.table import read_table  # with pydantic, which no other pileup needs

    table = read_table(path, reads_digest(alignments))
    return None if table.leaves_alone else Recalibration(table)


def _extract_all(source: Source, stretches: Sequence[Stretch], threads: int) -> list[Examples]:
    """Return the examples of all stretches, and show how many bases are done while they come."""
    lengths = [sum(end - start for start, end in stretch.regions) / 1e6 for stretch in stretches]
    reached = [0.0, *itertools.accumulate(lengths)]
    with progress("pileup", round(reached[-1], 2), "Mb") as bar:
        shown = 0

        def show(done: int) -> None:
            nonlocal shown
            bar.advance(reached[done] - reached[shown])
            shown = done

        return side_by_side(partial(extract_stretch, source), stretches, threads, show)


def _with_reads(source: Source, stretches: Sequence[Stretch]) -> Sequence[Stretch]:
    """Leave out, where there are many, stretches of contigs without a read: most of a genome's thousands have none."""
    if len(stretches) < _MANY_STRETCHES or (known := contigs_with_reads(source.alignments)) is None:
        return stretches
    return [stretch for stretch in stretches if source.alignment_ranks[stretch.contig] in known]


def _label(source: Source, stretch: Stretch, candidates: Candidates, sequence: str, start: int) -> np.ndarray:
    if source.truth is None or source.sample is None:
        return np.full(len(candidates), UNKNOWN, np.int8)
    span = (stretch.start - _AROUND, stretch.end + _AROUND)
    truth = read_truth(source.truth, source.sample, stretch.contig, *span, sequence, start)
    return label_candidates(candidates.alleles, truth, stretch.uncut, source.label_types, sequence, start)


def _encode(
    evidence: ReadEvidence,
    candidates: Candidates,
    counts: np.ndarray,
    reference: np.ndarray,
    start: int,
    labels: np.ndarray,
    others: np.ndarray,
    contig: str,
) -> Examples:
    likelihoods = log_likelihoods(evidence, candidates)
    count = len(candidates)
    depth = np.bincount(evidence.candidate, minlength=count)
    depths = [np.bincount(evidence.candidate[evidence.shown == kind], minlength=count) for kind in (REF, ALT)]
    windows = np.zeros((count, len(COUNT_CHANNELS), WINDOW), np.uint16)
    bases = np.full((count, WINDOW), 4, np.uint8)
    cut_windows(counts, reference, candidates.position - start, windows, bases)
    return make_examples(
        [(without_ambiguity(allele.ref), without_ambiguity(allele.alt)) for allele in candidates.alleles],
        {"contigs": json.dumps([contig])},
        counts=windows,
        reference=bases,
        features=summarise(evidence, candidates, likelihoods, others),
        log_likelihoods=likelihoods,
        labels=labels,
        contig=np.zeros(count, np.uint16),
        position=candidates.position,
        allele_depths=np.stack(depths, 1),
        depth=depth,
        observations=evidence.packed(),
        observation_offsets=np.concatenate([[0], np.cumsum(depth)]),
        repeats=repeats(candidates),
    )


def _inside(positions: np.ndarray, regions: Sequence[tuple[int, int]]) -> np.ndarray:
    starts, ends = (np.array(side, np.int64) for side in zip(*regions, strict=True))
    place = np.searchsorted(starts, positions, side="right") - 1
    return (place >= 0) & (positions < ends[np.maximum(place, 0)])


def _metadata(
    source: Source, spans: Sequence[tuple[str, int, int]], lengths: dict[str, int], examples: Examples, shard: Shard
) -> dict[str, str]:
    digest = hashlib.sha256("".join(f"{name}\t{lengths[name]}\n" for name in source.contigs).encode())
    own = [piece for piece, _ in cut_regions(spans, shard)]
    return {
        **examples.metadata,
        **({"shard": str(shard)} if shard.total > 1 else {}),
        "sample": source.sample or "",
        "reference_sha256": digest.hexdigest(),
        "regions": str(len(spans)),
        "bases": str(sum(end - start for _, start, end in spans)),
        "label_types": source.label_types,
        "labelled": str(int((examples.labels >= 0).sum())),
        "true_alleles": str(count_true_alleles(source.truth, source.sample, own))
        if source.truth is not None and source.sample is not None
        else "0",
    }
