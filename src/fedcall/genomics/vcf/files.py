"""Open VCF files of known genotypes or frequencies, after checking that they belong to the reference."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pysam

from fedcall.errors import FedcallError
from fedcall.genomics.reference import shared_contigs


@contextmanager
def open_vcf(path: Path, what: str, without_samples: bool = False) -> Iterator[pysam.VariantFile]:
    """Yield an open VCF or BCF; `what` names it in messages. Without samples, no genotype is parsed."""
    if not Path(path).is_file():
        raise FedcallError(f"{path}: no such {what}")
    try:
        handle = pysam.VariantFile(str(path), drop_samples=without_samples)
    except (OSError, ValueError) as error:
        raise FedcallError(f"{path}: not a readable VCF ({error})") from None
    with handle:
        yield handle


def check_vcf(path: Path, reference: Path, what: str) -> None:
    """Refuse a VCF without index, or whose contigs are not the reference's: it would say nothing about any allele.

    Raises
    ------
    FedcallError
        Naming the file, the contig where there is one, and what to do.
    """
    with open_vcf(path, what) as variants:
        if variants.index is None:
            raise FedcallError(f"{path}: index is missing; make it with: tabix -p vcf {path}")
        contigs: dict[str, int | None] = dict.fromkeys(variants.index)
        contigs |= {name: contig.length for name, contig in variants.header.contigs.items()}
    if contigs:
        shared_contigs(path, contigs, reference)


def known_contigs(variants: pysam.VariantFile) -> set[str]:
    """Return the contigs whose records can be asked for: those of the header and those of the index."""
    return {*variants.header.contigs, *(variants.index or ())}


def check_ref(path: Path, what: str, record: pysam.VariantRecord, sequence: str, start: int) -> None:
    """Refuse a record whose REF is not what the reference has.

    Parameters
    ----------
    sequence : upper-case reference from `start` on; REF may reach beyond it, and is compared as far as it goes
    """
    ref = record.ref.upper()
    at = record.start - start
    expected = sequence[at : at + len(ref)]
    if ref == expected:
        return
    if set(ref) <= set("ACGT") and set(expected) <= set("ACGT") and ref[: len(expected)] != expected:
        raise FedcallError(
            f"{path}: {record.contig}:{record.pos}: REF is {ref[:20]}, but the reference has {expected[:20]};"
            f" use the reference the {what} was made with"
        )
