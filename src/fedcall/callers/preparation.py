"""Files in the form that every caller takes: a plain reference with its dictionary, and regions as sorted BED."""

from pathlib import Path

import pysam

from fedcall.files import atomic_path, write_text
from fedcall.genomics.reference import open_reference, reference_contigs
from fedcall.genomics.regions import read_regions

_CHUNK = 1 << 24


def prepare_reference(reference: Path, output: Path) -> None:
    """Write `output` (.fa) with `.fai` and `.dict` beside it: what GATK and freebayes read.

    A plain FASTA is linked, a bgzipped one written out plain. The dictionary (SAM specification, section 1.3, @SQ) goes
    under the two names that tools look for: GATK's `genome.dict`.

    Raises
    ------
    FedcallError
        If the reference or its index is missing or not readable.
    """
    reference, output = Path(reference), Path(output)
    lengths = reference_contigs(reference)
    open_reference(reference).close()
    output.parent.mkdir(parents=True, exist_ok=True)
    index = Path(f"{output}.fai")
    if reference.suffix in (".gz", ".bgz"):
        with atomic_path(output) as plain, pysam.BGZFile(str(reference), "rb") as source, open(plain, "wb") as target:
            while block := source.read(_CHUNK):
                target.write(block)
        pysam.faidx(str(output))
    else:
        for link, target_file in ((output, reference), (index, Path(f"{reference}.fai"))):
            link.unlink(missing_ok=True)
            link.symlink_to(target_file.resolve())
    lines = ["@HD\tVN:1.6", *(f"@SQ\tSN:{name}\tLN:{length}" for name, length in lengths.items())]
    write_text(output.with_suffix(".dict"), "\n".join(lines) + "\n")


def write_regions(reference: Path, output: Path, regions: Path | None = None) -> int:
    """Write the regions as BED of three columns, merged and in the order of the reference; return their bases.

    Without `regions` these are all contigs, whole.
    """
    if regions is None:
        spans = [(name, 0, length) for name, length in reference_contigs(reference).items()]
    else:
        spans = read_regions(regions, reference)
    write_text(output, "".join(f"{contig}\t{start}\t{end}\n" for contig, start, end in spans))
    return sum(end - start for _, start, end in spans)
