"""Checks of VCF files of known genotypes or frequencies: that they belong to the reference."""

from pathlib import Path

from fedcall.errors import FedcallError
from fedcall.genomics.reference import shared_contigs
from fedcall.genomics.vcf.record import VcfRow
from fedcall.genomics.vcf.rows import open_rows


def check_vcf(path: Path, reference: Path, what: str) -> None:
    """Refuse a VCF without index, or whose contigs are not the reference's: it would say nothing about any allele.

    Raises
    ------
    FedcallError
        Naming the file, the contig where there is one, and what to do.
    """
    with open_rows(path, what, trust_index=True) as vcf:
        indexed = vcf.indexed_contigs()
        if indexed is None:
            if vcf.is_plain_gzip:
                plain = str(path).removesuffix(".gz")
                raise FedcallError(
                    f"{path}: gzipped, not bgzipped, so it cannot be indexed;"
                    f" do: gunzip {path} && bgzip {plain} && tabix -p vcf {plain}.gz"
                )
            raise FedcallError(f"{path}: index is missing; make it with: tabix -p vcf {path}")
        contigs: dict[str, int | None] = dict.fromkeys(indexed)
        contigs |= vcf.contigs
    if contigs:
        shared_contigs(path, contigs, reference)


def check_ref(path: Path, what: str, row: VcfRow, sequence: str, start: int) -> None:
    """Refuse a record whose REF is not what the reference has.

    Parameters
    ----------
    sequence : upper-case reference from `start` on; REF may reach beyond it, and is compared as far as it goes
    """
    at = row.start - start
    expected = sequence[at : at + len(row.ref)]
    if row.ref == expected:
        return
    if set(row.ref) <= set("ACGT") and set(expected) <= set("ACGT") and row.ref[: len(expected)] != expected:
        raise FedcallError(
            f"{path}: {row.contig}:{row.start + 1}: REF is {row.ref[:20]}, but the reference has {expected[:20]};"
            f" use the reference the {what} was made with"
        )
