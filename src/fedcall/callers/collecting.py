"""Take in what another caller wrote: checked, sorted, under the patient's name, with the program's version in it.

What the alleles are called is left as the caller says; the comparison brings all callers' records into one form.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from fedcall.callers.catalogue import CATALOGUE, CallerName
from fedcall.callers.software import IMAGE_KEY, VERSION_KEY, stated_version
from fedcall.errors import FedcallError
from fedcall.files import sha256_file
from fedcall.genomics.htslib import run_bcftools
from fedcall.genomics.index_files import needs_csi
from fedcall.genomics.reference import reference_contigs
from fedcall.genomics.reference_index import NAME_CHARACTERS
from fedcall.genomics.vcf.bgzip import write_vcf
from fedcall.genomics.vcf.carried import patient_file
from fedcall.genomics.vcf.record import VcfRow
from fedcall.genomics.vcf.rows import VcfFile, open_rows
from fedcall.shown import shown

LOW_QUALITY = "LowQual"
# Header lines that name paths, command lines or times: equal inputs give equal bytes without them.
_LEFT_OUT = ("##fileformat=", "##fileDate=", "##reference=", "##commandline=", "##GATKCommandLine", "##bcftools_")
_IMAGE = "image "


@dataclass(frozen=True)
class CallerVersion:
    """What a caller says of itself.

    Attributes
    ----------
    version : file with what it printed when asked for its version; a last line `image PATH` names the container's file
    image : the container as the configuration names it; None outside of one
    """

    version: Path
    image: str | None = None


@dataclass(frozen=True)
class Collected:
    """What became of the calls of one patient."""

    records: int
    low_quality: int
    software: str


class _UnsortedError(Exception):
    """Records are not sorted by contig and position."""


def collect_calls(
    caller: CallerName, calls: Path, reference: Path, sample: str, output: Path, provenance: CallerVersion
) -> Collected:
    """Write another caller's calls as bgzipped, indexed VCF whose one column has the patient's name.

    Records below the quality that the caller's authors advise get the filter LowQual. Nothing is left out.

    Parameters
    ----------
    calls : VCF of one sample, whatever its name, in any order
    reference : indexed FASTA

    Raises
    ------
    FedcallError
        If the file is missing, breaks off, has several samples, or its contigs are not the reference's.
    """
    calls, reference = Path(calls), Path(reference)
    software, image = f"{caller} {_version(provenance.version)}", _image(provenance)
    lengths = reference_contigs(reference)
    known = set(lengths)
    with open_rows(calls, f"calls of {caller}") as vcf:
        patient_file(vcf, reference, None)
    with _sorted(calls, known) as path, open_rows(path) as vcf:
        least = CATALOGUE[caller].least_quality
        count = _Count()
        lines = chain(_header(vcf, software, image, sample), _records(vcf, known, least, count))
        write_vcf(output, lines, needs_csi(lengths.values()))
    return Collected(count.records, count.low_quality, software)


class _Count:
    def __init__(self) -> None:
        self.records = self.low_quality = 0


def _records(vcf: VcfFile, known: set[str], least: float, count: _Count) -> Iterator[str]:
    for row in _in_order(vcf, known):
        low = least > 0 and (row.quality or 0.0) < least
        count.records += 1
        count.low_quality += low
        failed = ";".join([*row.filters, *([LOW_QUALITY] if low and LOW_QUALITY not in row.filters else [])])
        yield "\t".join(
            [
                row.contig,
                str(row.start + 1),
                ".",
                row.ref,
                ",".join(row.alts) or ".",
                row.qual,
                failed or row.filter,
                row.info,
                row.keys,
                row.values,
            ]
        )


def _in_order(vcf: VcfFile, known: set[str]) -> Iterator[VcfRow]:
    """Yield the records; refuse contigs that are not known, and stop at the first that is out of order."""
    contig, start, left = "", -1, set()
    for row in vcf.rows(vcf.samples[0]):
        if row.contig not in known:
            raise FedcallError(
                f"{row.place}: contig '{shown(row.contig, NAME_CHARACTERS)}' is not in the reference; call with the"
                " same one"
            )
        if row.contig != contig:
            left.add(contig)
            contig, start = row.contig, -1
        if row.contig in left or row.start < start:
            raise _UnsortedError
        start = row.start
        yield row


@contextmanager
def _sorted(calls: Path, known: set[str]) -> Iterator[Path]:
    """Yield the calls, or a sorted copy: freebayes' haplotypes may begin before the record above them."""
    try:
        with open_rows(calls) as vcf:
            for _ in _in_order(vcf, known):
                pass
    except _UnsortedError:
        with tempfile.TemporaryDirectory(prefix="fedcall-") as folder:
            copy = Path(folder) / "sorted.vcf"
            run_bcftools(calls, "sort", ["-Ov", "-o", str(copy), "-T", str(Path(folder) / "parts"), str(calls)])
            yield copy
        return
    yield calls


def _header(vcf: VcfFile, software: str, image: str | None, sample: str) -> list[str]:
    kept = [line for line in vcf.meta if not line.startswith(_LEFT_OUT)]
    if not any(line.startswith(f"##FILTER=<ID={LOW_QUALITY},") for line in kept):
        kept.append(f'##FILTER=<ID={LOW_QUALITY},Description="QUAL below what the caller\'s authors advise">')
    return [
        "##fileformat=VCFv4.2",
        f"##{VERSION_KEY}={software}",
        *([f"##{IMAGE_KEY}={image}"] if image else []),
        *kept,
        "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", sample]),
    ]


def _version(path: Path) -> str:
    return stated_version(_said(path).partition(f"\n{_IMAGE}")[0])


def _said(path: Path) -> str:
    try:
        return "\n" + Path(path).read_text(errors="replace")
    except FileNotFoundError:
        raise FedcallError(f"{path}: no such file; the caller's --version goes there") from None


def _image(provenance: CallerVersion) -> str | None:
    """Return the container's name, and the digest of its file where that is known."""
    named = [line.removeprefix(_IMAGE).strip() for line in _said(provenance.version).split("\n") if _IMAGE in line[:6]]
    file = Path(named[-1]) if named and named[-1] else None
    if file is None:
        return None
    digest = f" sha256:{sha256_file(file)}" if file.is_file() else ""
    return f"{provenance.image or file.name}{digest}"
