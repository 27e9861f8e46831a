"""Files may be called anything: like an option, a URL or a sentence, with blanks, quotes, line breaks, any script."""

import os
from pathlib import Path

import pysam
import pytest

from fedcall.errors import FedcallError
from fedcall.genomics.calling.classical import call_classical
from fedcall.genomics.pileup.extraction import extract_examples
from fedcall.genomics.reads.align import align_reads
from fedcall.genomics.reads.normalise_alignments import normalise_alignments
from fedcall.genomics.reads.opening import open_alignments
from fedcall.genomics.truth.normalise_labels import normalise_labels
from tiny_alignments import Read, write_alignments, write_reference, write_truth

BASES = "".join("ACGTTGCA"[(k * k + k // 3) % 8] for k in range(400))
NAMES = [
    "-h",
    "--help",
    "a b",
    "it's",
    'a"b',
    "$(touch x)",
    "; ls",
    "a\nb",
    "Åse-日本",
    "data:x",
    "s3:x",
    "*",
    "EOF truncated",
]


@pytest.mark.parametrize("name", NAMES)
def test_commands__take_a_file_by_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    write_reference(tmp_path, {"c": BASES})
    reads = [Read(k, "100M", BASES[k : k + 100]) for k in range(0, 300, 10)]
    write_alignments(tmp_path, {"c": 400}, reads, "plain.bam")
    write_truth(tmp_path, {"c": 400}, [(50, BASES[50], "ACGT"[("ACGT".index(BASES[50]) + 1) % 4], (0, 1))])
    bam, fasta, vcf, cram = (Path(f"{name}.{ending}") for ending in ("bam", "fa", "vcf.gz", "cram"))
    for old, new in (("plain.bam", bam), ("reference.fa", fasta), ("truth.vcf.gz", vcf)):
        os.rename(old, new)
    os.rename("plain.bam.bai", f"{bam}.bai")
    os.rename("reference.fa.fai", f"{fasta}.fai")
    os.rename("truth.vcf.gz.tbi", f"{vcf}.tbi")
    crams = [cram] if "\n" not in name else []  # samtools writes the reference's name into a CRAM's header
    for path in crams:
        whole = (os.path.abspath(own) for own in (fasta, path, bam))
        pysam.view("-C", "-T", next(whole), "-o", *whole, catch_stdout=False)
        pysam.index(os.path.abspath(path))
        summary = normalise_alignments(path, fasta, Path(f"{name}.out2.bam"), duplicates="keep")
        assert summary.reads == len(reads)
    assert normalise_alignments(bam, fasta, Path(f"{name}.out.bam")).reads == len(reads)
    for alignments in (bam, *crams, Path(f"{name}.out.bam")):
        extract_examples(alignments, fasta, truth=vcf)
    assert normalise_labels(vcf, fasta, Path(f"{name}.out.vcf.gz")).kept == 1
    call_classical(bam, fasta, Path(f"{name}.calls.vcf.gz"))
    Path(f"{name}.fq").write_text(f"@r\n{BASES[:100]}\n+\n{'I' * 100}\n")
    assert align_reads(Path(f"{name}.fq"), None, fasta, "s", Path(f"{name}.aligned.bam")) == 1


def test_open_alignments__a_name_is_no_reason(tmp_path: Path) -> None:
    """A file that is no BAM is not called cut off because its folder has such a name."""
    reference = write_reference(tmp_path, {"c": BASES})
    folder = tmp_path / "EOF truncated"
    folder.mkdir()
    (folder / "x.bam").write_text("no alignments\n")
    with pytest.raises(FedcallError) as caught:
        open_alignments(folder / "x.bam", reference)
    assert "end-of-file" not in str(caught.value)
