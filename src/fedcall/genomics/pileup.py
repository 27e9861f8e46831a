"""Turn one patient's alignments into examples, a shard of the genome at a time."""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np

from fedcall.genomics.alignment_records import Records, fetch_records
from fedcall.genomics.alleles import MAX_SHIFT
from fedcall.genomics.candidate_kernels import cut_windows
from fedcall.genomics.candidates import Candidates, base_codes, find_candidates
from fedcall.genomics.count_kernels import count_channels
from fedcall.genomics.evidence import ALT, REF, collect_evidence
from fedcall.genomics.examples import (
    COUNT_CHANNELS,
    WINDOW,
    Examples,
    concatenate,
    empty_examples,
    make_examples,
)
from fedcall.genomics.labels import (
    DOUBT,
    UNKNOWN,
    check_truth,
    choose_sample,
    count_true_alleles,
    label_candidates,
    label_types,
    read_truth,
)
from fedcall.genomics.likelihood import log_likelihoods
from fedcall.genomics.reads import (
    check_alignments,
    header_contigs,
    open_alignments,
    open_reference,
    read_regions,
    reference_contigs,
    shared_contigs,
)
from fedcall.genomics.scalars import count_neighbours, summarise

SHARD_LENGTH = 500_000
"""Bases worked on at once: bounds memory to some 100 MB at 30x."""
_JOINED_GAP = 5_000
# A candidate's label and neighbours depend on alleles up to here; those in turn on reads MAX_SHIFT further on.
_AROUND = MAX_SHIFT + DOUBT + 2 * WINDOW
_MARGIN = _AROUND + MAX_SHIFT + WINDOW
_BEHIND_TRUTH = 1_100
_SHORTEST_SHARE = 20_000


@dataclass(frozen=True)
class Shard:
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


def extract_examples(
    alignments: Path,
    reference: Path,
    regions: Path | None = None,
    truth: Path | None = None,
    sample: str | None = None,
    threads: int = 1,
    shard_length: int = SHARD_LENGTH,
    keep: float = 1.0,
) -> Examples:
    """Find and encode the candidates of one patient.

    Parameters
    ----------
    alignments : BAM or CRAM, sorted and indexed
    reference : indexed FASTA
    regions : BED; without it, all contigs that alignments and reference share
    truth : VCF with the patient's genotypes; without it, every label is -1
    sample : the patient's column in `truth`; may be left out if there is one only
    threads : processes that work on shards side by side
    shard_length : bases per shard; the result does not depend on it
    keep : share of the fragments to look at, in (0, 1]: the patient as a lower depth would show them

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
    spans = read_regions(regions, reference) if regions is not None else None
    check_alignments(alignments, reference, {contig for contig, _, _ in spans} if spans is not None else None)
    with open_alignments(alignments, reference) as handle:
        known = header_contigs(handle)
        if spans is None:
            spans = [(name, 0, lengths[name]) for name in shared_contigs(alignments, known, reference)]
    if truth is not None:
        check_truth(Path(truth), reference)
    source = Source(
        alignments,
        reference,
        Path(truth) if truth is not None else None,
        choose_sample(truth, sample) if truth is not None else sample,
        tuple(dict.fromkeys(contig for contig, _, _ in spans)),
        tuple(known),
        label_types(truth) if truth is not None else "all",
        keep,
    )
    if threads > 1:
        # Several shards a process, so that none waits long for the last.
        share = sum(end - start for _, start, end in spans) // (4 * threads)
        shard_length = min(shard_length, max(_SHORTEST_SHARE, share))
    shards = make_shards(spans, shard_length)
    work = partial(extract_shard, source)
    if threads > 1 and len(shards) > 1:
        with ProcessPoolExecutor(min(threads, len(shards)), mp_context=get_context("fork")) as pool:
            parts = list(pool.map(work, shards))
    else:
        parts = [work(shard) for shard in shards]
    examples = concatenate([part for part in parts if len(part)] or [empty_examples()])
    return replace(examples, metadata=_metadata(source, spans, lengths, examples))


def make_shards(regions: Sequence[tuple[str, int, int]], length: int) -> list[Shard]:
    """Cut regions into shards of at most `length` bases; small regions close to each other share one."""
    shards: list[Shard] = []
    for contig, start, end in regions:
        for first in range(start, end, length):
            piece = (first, min(end, first + length))
            last = shards[-1] if shards else None
            near = last is not None and last.contig == contig and piece[0] - last.end <= _JOINED_GAP
            if last is not None and near and piece[1] - last.start <= length:
                shards[-1] = Shard(contig, (*last.regions, piece), (*last.uncut, (start, end)))
            else:
                shards.append(Shard(contig, (piece,), ((start, end),)))
    return shards


def extract_shard(source: Source, shard: Shard) -> Examples:
    """Encode the candidates of one shard."""
    start = max(0, shard.start - _MARGIN)
    with open_reference(source.reference) as fasta:
        sequence = fasta.fetch(shard.contig, start, shard.end + _MARGIN + _BEHIND_TRUTH).upper()
    end = min(start + len(sequence), shard.end + _MARGIN)
    if not sequence.strip("N"):
        return empty_examples()
    contig_index = source.alignment_contigs.index(shard.contig)
    records = fetch_records(source.alignments, source.reference, shard.contig, contig_index, start, end, source.keep)
    if len(records) == 0:
        return empty_examples()
    covered = sequence[: end - start]
    reference = base_codes(covered)
    counts = np.zeros((end - start, len(COUNT_CHANNELS)), np.int32)
    events = np.empty((records.indels, 4), np.int64)
    found = count_channels(records.buffer, records.table, records.mates, reference, start, counts, events)
    around = (shard.start - _AROUND, shard.end + _AROUND)
    everything = find_candidates(counts, events[:found], records, covered, reference, start, around)
    labels = _label(source, shard, everything, sequence, start)
    others = count_neighbours(everything.position)
    rows = np.flatnonzero(_inside(everything.position, shard.regions))
    return _encode(records, everything.take(rows), counts, reference, start, labels[rows], others[rows], shard.contig)


def _label(source: Source, shard: Shard, candidates: Candidates, sequence: str, start: int) -> np.ndarray:
    if source.truth is None or source.sample is None:
        return np.full(len(candidates), UNKNOWN, np.int8)
    span = (shard.start - _AROUND, shard.end + _AROUND)
    truth = read_truth(source.truth, source.sample, shard.contig, *span, sequence, start)
    return label_candidates(candidates.alleles, truth, shard.uncut, source.label_types, sequence, start)


def _encode(
    records: Records,
    candidates: Candidates,
    counts: np.ndarray,
    reference: np.ndarray,
    start: int,
    labels: np.ndarray,
    others: np.ndarray,
    contig: str,
) -> Examples:
    evidence = collect_evidence(records, candidates, reference, start)
    likelihoods = log_likelihoods(evidence, candidates)
    count = len(candidates)
    depths = [np.bincount(evidence.candidate[evidence.shown == kind], minlength=count) for kind in (REF, ALT)]
    windows = np.zeros((count, len(COUNT_CHANNELS), WINDOW), np.uint16)
    bases = np.full((count, WINDOW), 4, np.uint8)
    cut_windows(counts, reference, candidates.position - start, windows, bases)
    return make_examples(
        [(allele.ref, allele.alt) for allele in candidates.alleles],
        {"contigs": json.dumps([contig])},
        counts=windows,
        reference=bases,
        scalars=summarise(evidence, candidates, likelihoods, others),
        log_likelihoods=likelihoods,
        labels=labels,
        contig=np.zeros(count, np.uint16),
        position=candidates.position,
        allele_depths=np.stack(depths, 1),
        depth=np.bincount(evidence.candidate, minlength=count),
    )


def _inside(positions: np.ndarray, regions: Sequence[tuple[int, int]]) -> np.ndarray:
    starts, ends = (np.array(side, np.int64) for side in zip(*regions, strict=True))
    place = np.searchsorted(starts, positions, side="right") - 1
    return (place >= 0) & (positions < ends[np.maximum(place, 0)])


def _metadata(
    source: Source, spans: Sequence[tuple[str, int, int]], lengths: dict[str, int], examples: Examples
) -> dict[str, str]:
    digest = hashlib.sha256("".join(f"{name}\t{lengths[name]}\n" for name in source.contigs).encode())
    return {
        **examples.metadata,
        "sample": source.sample or "",
        "reference_sha256": digest.hexdigest(),
        "regions": str(len(spans)),
        "bases": str(sum(end - start for _, start, end in spans)),
        "label_types": source.label_types,
        "labelled": str(int((examples.labels >= 0).sum())),
        "true_alleles": str(count_true_alleles(source.truth, source.sample, spans))
        if source.truth is not None and source.sample is not None
        else "0",
    }
