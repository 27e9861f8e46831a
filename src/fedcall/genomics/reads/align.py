"""Align reads to the reference with minimap2's short-read preset."""

import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pysam

from fedcall.errors import FedcallError
from fedcall.files import atomic_path
from fedcall.genomics.htslib import FORK, run_samtools
from fedcall.genomics.index_files import htslib_name
from fedcall.genomics.reads.long_reads import refuse_long_fastq
from fedcall.genomics.reference import reference_contigs

PIPE = "aligned.sam"


def align_reads(
    reads1: Path, reads2: Path | None, reference: Path, sample: str, output: Path, *, threads: int = 1
) -> int:
    """Align short reads into BAM, in the order they came; return how many there were, mates counted each.

    The result is what the same reads, reference and version of minimap2 give, whatever the number of threads.

    Parameters
    ----------
    reads1, reads2 : Path
        FASTQ, plain or gzipped; with `reads2` the mates of the reads in `reads1`, in the same order.
    reference : Path
        Indexed FASTA. minimap2 holds its index in memory: about 12 GB for a human genome.
    sample : str
        Written as the read group's sample.
    output : Path
        BAM to write; `normalise_alignments` sorts it.

    Raises
    ------
    FedcallError
        If a file is missing, damaged, empty or no FASTQ, if mates do not pair up, or if reads are long; nothing is
        written then.
    """
    reference_contigs(Path(reference))
    for reads in (reads1, reads2):
        if reads is not None:
            refuse_long_fastq(Path(reads))
    expected = _count_reads(Path(reads1), Path(reads2) if reads2 else None)
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".align-", dir=output.parent) as folder, atomic_path(output) as bam:
        pipe = str(Path(folder) / PIPE)
        os.mkfifo(pipe)
        # minimap2 writes its command line into the header: by these names it is the same on every machine.
        files = {"reference.fa": reference, "reads1.fastq": reads1, **({"reads2.fastq": reads2} if reads2 else {})}
        for name, file in files.items():
            (Path(folder) / name).symlink_to(Path(file).resolve())
        group = f"@RG\\tID:{sample}\\tSM:{sample}\\tPL:ILLUMINA"
        arguments = ["-a", "-x", "sr", "-t", str(threads), "-R", group, "-o", PIPE, *files]
        mapper = FORK.Process(target=_minimap2, args=(folder, arguments))
        mapper.start()
        try:
            run_samtools(Path(reads1), "view", ["--no-PG", "-b", "-@", str(threads - 1), "-o", htslib_name(bam), pipe])
        finally:
            if mapper.is_alive():
                mapper.join(timeout=30)
                mapper.kill()
            mapper.join()
        aligned = int(pysam.view("-c", "-F", "0x900", htslib_name(bam)))
        if mapper.exitcode or aligned != expected:
            raise FedcallError(
                f"{reads1}: {aligned} of {expected} reads came out of minimap2 (exit code {mapper.exitcode});"
                " is the memory or disk full?"
            )
    return expected


def _minimap2(folder: str, arguments: list[str]) -> None:
    import pyminimap2

    os.chdir(folder)
    pyminimap2.main(arguments)


def _count_reads(reads1: Path, reads2: Path | None) -> int:
    """Read both files once, so that a damaged or mismatched one is found before hours of work."""
    count = 0
    if reads2 is None:
        count = sum(1 for _ in _names(reads1))
    else:
        for one, other in itertools.zip_longest(_names(reads1), _names(reads2)):
            if one != other:
                raise FedcallError(
                    f"{reads2}: read {count + 1} is '{other}', but '{one}' in {reads1}; mates must come in equal order"
                    if one and other
                    else f"{reads2 if one else reads1}: ends after {count} reads, before its mates; copy it again"
                )
            count += 1
        count *= 2
    if not count:
        raise FedcallError(f"{reads1}: holds no reads")
    return count


def _names(fastq: Path) -> Iterator[str]:
    """Yield the names of reads without the mate's number."""
    if not fastq.is_file():
        raise FedcallError(f"{fastq}: no such FASTQ file")
    number = 0
    try:
        with pysam.FastxFile(htslib_name(fastq), persist=False) as reads:
            for number, read in enumerate(reads, start=1):
                # A read of no bases is what trimming leaves; it comes out unmapped.
                if read.sequence and not read.quality:
                    raise FedcallError(f"{fastq}: read {number} ('{read.name}') has no base qualities; FASTQ is needed")
                yield read.name.removesuffix("/1").removesuffix("/2")
    except (OSError, ValueError) as error:
        raise FedcallError(f"{fastq}: damaged after read {number} ({error}); copy it again") from None
