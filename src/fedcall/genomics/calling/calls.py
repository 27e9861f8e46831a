"""Write what a model believes about candidates as a VCF that other tools read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from fedcall import __version__
from fedcall.errors import FedcallError
from fedcall.genomics.calling.diplotypes import CallRecord, Candidate, call_records
from fedcall.genomics.calling.lone_records import FLOOR, FORMAT, MAX_GQ, groups_of, lone_records
from fedcall.genomics.examples import Examples
from fedcall.genomics.reads.opening import open_alignments, samples_of
from fedcall.genomics.reference import reference_contigs
from fedcall.genomics.shards import WHOLE, Shard, Span, name_shard
from fedcall.genomics.vcf.bgzip import write_vcf
from fedcall.genomics.vcf.carried import Inside
from fedcall.genomics.vcf.rows import open_rows

_HEADER = (
    '##FILTER=<ID=PASS,Description="All filters passed">',
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
    '##FORMAT=<ID=GQ,Number=1,Type=Integer,Description="Phred-scaled probability that the genotype is wrong">',
    '##FORMAT=<ID=PL,Number=G,Type=Integer,Description="Phred-scaled posterior probabilities of the genotypes,'
    ' less the smallest">',
    '##FORMAT=<ID=DP,Number=1,Type=Integer,Description="Reads over the position">',
    '##FORMAT=<ID=AD,Number=R,Type=Integer,Description="Reads that show each allele">',
)


@dataclass(frozen=True)
class Provenance:
    """What a file of calls says about where it comes from: names and digests, no path, no time."""

    model_digest: str
    study_digest: str | None = None
    panel_digest: str | None = None
    recalibration_digest: str | None = None


@dataclass(frozen=True)
class Part:
    """A part of a patient's calls.

    Attributes
    ----------
    shard : which part of how many
    spans : where its records begin; None for everywhere
    """

    shard: Shard = WHOLE
    spans: Sequence[Span] | None = None


_ALL = Part()


def panel_digest(calls: Path) -> str | None:
    """Return the digest of the panel that calls were made with, from their header; None without one."""
    with open_rows(calls) as vcf:
        return vcf.meta_value("fedcall_panel")


def write_calls(
    output: Path,
    examples: Examples,
    posteriors: np.ndarray,
    reference: Path,
    sample: str,
    provenance: Provenance,
    haploid: Sequence[Span] = (),
    part: Part = _ALL,
) -> int:
    """Write candidates whose best genotype is not 0/0 as a bgzipped VCF 4.3 with a tabix index beside it.

    Parameters
    ----------
    output : path ending in `.vcf.gz`
    examples : candidates of one patient, n rows in any order
    posteriors : float32, shape (n, 3)
        Probabilities of 0, 1 and 2 copies of each candidate's alternative allele.
    reference : indexed FASTA the candidates were found on
    sample : name of the genotype column
    provenance : digests for the header
    haploid : where the patient has one copy of the genome: genotypes that begin there are 0 or 1
    part : of the patient's calls; only its records are written, and the header names it

    Returns
    -------
    int
        Number of records written.

    Raises
    ------
    FedcallError
        If a candidate's contig is not in the reference, or a posterior is not a probability.
    """
    if posteriors.shape != (len(examples), 3):
        raise ValueError(f"Posteriors must have shape ({len(examples)}, 3). Found {posteriors.shape}.")
    if not (np.isfinite(posteriors).all() and (posteriors >= 0).all()):
        raise FedcallError("the model's output holds values that are no probabilities; train or fetch the model again")
    contigs = reference_contigs(reference)
    unknown = [name for name in examples.contigs if name not in contigs]
    if unknown:
        raise FedcallError(f"{reference}: no contig '{unknown[0]}', on which there are candidates")
    header = name_shard(list(_header(contigs, Path(reference), sample, provenance)), part.shard)
    posteriors = _without_heterozygotes(examples, posteriors, haploid)
    records = list(_records(examples, posteriors, list(contigs), part.spans, haploid))
    write_vcf(output, [*header, *records])
    return len(records)


def rows_within(examples: Examples, spans: Sequence[Span]) -> np.ndarray:
    """Return which candidates lie in spans: bool, shape (n,)."""
    rows = np.zeros(len(examples), bool)
    ranks = {name: rank for rank, name in enumerate(examples.contigs)}
    for name, start, end in spans:
        if name in ranks:
            here = examples.contig == ranks[name]
            rows |= here & (examples.position >= start) & (examples.position < end)
    return rows


def sample_name(alignments: Path, reference: Path) -> str:
    """Return the sample that the read groups of BAM or CRAM name, or the file's stem if they name none.

    Raises
    ------
    FedcallError
        If the read groups name several samples.
    """
    with open_alignments(alignments, reference) as file:
        names = samples_of(file)
    return names[0] if names else Path(alignments).stem


def _header(contigs: dict[str, int], reference: Path, sample: str, provenance: Provenance) -> Iterator[str]:
    yield "##fileformat=VCFv4.3"
    yield f"##source=fedcall {__version__}"
    yield f"##fedcall_model={provenance.model_digest}"
    if provenance.study_digest is not None:
        yield f"##fedcall_study={provenance.study_digest}"
    if provenance.panel_digest is not None:
        yield f"##fedcall_panel={provenance.panel_digest}"
    if provenance.recalibration_digest is not None:
        yield f"##fedcall_recalibration={provenance.recalibration_digest}"
    yield f"##reference={reference.name}"
    yield from _HEADER
    for name, length in contigs.items():
        yield f"##contig=<ID={name},length={length}>"
    yield "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", sample])


def _records(
    examples: Examples,
    posteriors: np.ndarray,
    order: list[str],
    spans: Sequence[Span] | None,
    haploid: Sequence[Span],
) -> Iterator[str]:
    ranks_of = {name: place for place, name in enumerate(order)}
    rank = np.array([ranks_of[name] for name in examples.contigs] or [0])
    own, single = None if spans is None else Inside(spans), Inside(haploid)
    called = np.flatnonzero(posteriors.argmax(axis=1) > 0)
    ranks = rank[examples.contig[called]]
    in_order = np.lexsort((examples.position[called], ranks))
    rows = called[in_order]
    begins = groups_of(examples, rows, ranks[in_order])
    alone = rows[begins[:-1][np.diff(begins) == 1]]
    lone = iter(lone_records(examples, posteriors, alone, rows_within(examples, haploid)[alone]))
    for begin, end in pairwise(begins.tolist()):
        if end - begin == 1:
            (contig, start), line = next(lone)
            if own is None or own(contig, start):
                yield line
            continue
        contig = examples.contigs[examples.contig[rows[begin]]]
        for record in call_records(list(_candidates(examples, posteriors, rows[begin:end]))):
            if own is None or own(contig, record.start):
                yield _as_line(contig, _haploid(record) if single(contig, record.start) else record)


def _without_heterozygotes(examples: Examples, posteriors: np.ndarray, haploid: Sequence[Span]) -> np.ndarray:
    """Return the posteriors given that no genotype in the haploid spans has two different alleles."""
    rows = rows_within(examples, haploid)
    possible = posteriors.astype(np.float64)
    possible[rows, 1] = 0.0
    possible[rows, 0] = np.maximum(possible[rows, 0], FLOOR)
    return possible / possible.sum(1, keepdims=True) if rows.any() else posteriors


def _haploid(record: CallRecord) -> CallRecord:
    """Return a record of two equal alleles as one allele, with a probability for each."""
    homozygous = [_index(allele, allele) for allele in range(len(record.alleles))]
    probabilities = record.probabilities[homozygous]
    return replace(record, genotype=record.genotype[1:], probabilities=probabilities / probabilities.sum())


def _candidates(examples: Examples, posteriors: np.ndarray, rows: np.ndarray) -> Iterator[Candidate]:
    columns = (examples.position, posteriors, examples.depth, examples.allele_depths)
    values = zip(examples.alleles_of(rows), *(column[rows].tolist() for column in columns), strict=True)
    for (ref, alt), position, (zero, one, two), depth, (ref_depth, alt_depth) in values:
        yield Candidate(position, ref, alt, (zero, one, two), depth, ref_depth, alt_depth)


def _index(first: int, second: int) -> int:
    """Return the place of a genotype with first ≤ second among all (VCF 4.3, section 1.6.2)."""
    return second * (second + 1) // 2 + first


def _as_line(contig: str, record: CallRecord) -> str:
    phred = -10 * np.log10(np.maximum(record.probabilities, FLOOR))
    best = record.genotype[0] if len(record.genotype) == 1 else _index(*record.genotype)
    # Summing the others keeps the digits that 1 - P(best) loses.
    others = record.probabilities.tolist()
    del others[best]
    wrong = others[0] + others[1] if len(others) == 2 else float(np.array(others).sum())
    quality = min(MAX_GQ, round(-10 * np.log10(max(wrong, FLOOR))))
    values = [
        "/".join(str(allele) for allele in record.genotype),
        str(max(0, quality)),
        ",".join([str(round(value)) for value in (phred - phred.min()).tolist()]),
        str(record.depth),
        ",".join(str(depth) for depth in record.allele_depths),
    ]
    alternatives = ",".join(record.alleles[1:])
    fixed = [contig, str(record.start + 1), ".", record.alleles[0], alternatives, f"{phred[0]:.2f}", "PASS", "."]
    return "\t".join([*fixed, FORMAT, ":".join(values)])
