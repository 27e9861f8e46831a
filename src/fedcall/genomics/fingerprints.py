"""Fingerprints by which the same data is known again, whatever its file is called.

They are digests of what is in a file, not of its bytes: copying, renaming, linking, compressing again or writing
another header changes nothing. They are made and kept inside the site; the ledger stores them as keyed hashes.
"""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pysam

from fedcall.errors import FedcallError
from fedcall.genomics.examples import Examples
from fedcall.genomics.index_files import htslib_name
from fedcall.genomics.reads.opening import open_alignments

READS = 256
"""Reads that make a fingerprint: the first ones of a file. Two people never share so many."""
LEAST_READS = 8
"""Fewer reads tell nobody apart."""
_SECONDARY = 0x900
_STRAND_AND_MATE = 0xD0  # flags that belong to the read: reverse strand, first and second mate


def reads_fingerprint(alignments: Path | None, reads: Path | None, reference: Path | None) -> tuple[str, ...]:
    """Return the fingerprint of a patient's first reads; none if there are too few, or the file cannot be read.

    What is wrong with a file that cannot be read is for the job to say that works on it.

    Parameters
    ----------
    alignments : Path or None
        BAM or CRAM.
    reads : Path or None
        FASTQ of first mates, in place of alignments.
    reference : Path or None
        FASTA of the alignments.
    """
    try:
        if alignments is not None and reference is not None and Path(alignments).is_file():
            return _of_reads("alignments", islice(_aligned(Path(alignments), Path(reference)), READS))
        if reads is not None and Path(reads).is_file():
            return _of_reads("reads", islice(_fastq(Path(reads)), READS))
    except (FedcallError, OSError, ValueError):
        return ()
    return ()


def content_fingerprints(examples: Examples) -> tuple[str, ...]:
    """Return the fingerprint of candidates: where they are, and how many reads showed what; labels do not matter."""
    if len(examples) == 0:
        return ()
    digest = hashlib.sha256(b"examples")
    digest.update("\t".join(examples.contigs).encode())
    for array in (
        examples.contig, examples.position, examples.allele_offsets, examples.allele_bytes,
        examples.allele_depths, examples.depth, examples.log_likelihoods,
    ):  # fmt: skip
        digest.update(np.ascontiguousarray(array).data)
    return (digest.hexdigest(),)


def _of_reads(kind: str, reads: Iterable[str]) -> tuple[str, ...]:
    found = sorted(reads)
    if len(found) < LEAST_READS:
        return ()
    return (hashlib.sha256("\n".join([kind, *found]).encode()).hexdigest(),)


def _aligned(path: Path, reference: Path) -> Iterator[str]:
    with open_alignments(path, reference) as alignments:
        for read in alignments.fetch(until_eof=True):
            if not read.flag & _SECONDARY:
                yield f"{read.query_name} {read.flag & _STRAND_AND_MATE} {read.query_sequence}"


def _fastq(path: Path) -> Iterator[str]:
    with pysam.FastxFile(htslib_name(path), persist=False) as reads:
        for read in reads:
            yield f"{read.name} {read.sequence}"
