"""What other callers wrote is taken in whole: checked, sorted, named, with the program's version; no allele is lost."""

import hashlib
from pathlib import Path

import pysam
import pytest

from fedcall.callers.collecting import CallerVersion, collect_calls
from fedcall.callers.software import software_of
from fedcall.errors import FedcallError
from fedcall.genomics.concordance.records import read_variants

DATA = Path(__file__).with_name("data")
HEADER = ["##fileformat=VCFv4.2", '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">']


def write(path: Path, *records: str, contigs: str = "ab", sample: str = "unknown") -> Path:
    """Write a VCF of records `CONTIG POS REF ALT QUAL GT`."""
    lines = [*HEADER, *(f"##contig=<ID={name},length=216>" for name in contigs)]
    lines.append(f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{sample}")
    for record in records:
        contig, position, ref, alt, quality, genotype = record.split()
        lines.append(f"{contig}\t{position}\trs1\t{ref}\t{alt}\t{quality}\t.\t.\tGT\t{genotype}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def version(tmp_path: Path) -> CallerVersion:
    path = tmp_path / "version.txt"
    path.write_text("version:  v1.3.6\n")
    return CallerVersion(path)


def rows(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in pysam.BGZFile(str(path)).read().decode().splitlines() if line[0] != "#"]


def test_collect_calls__sorted_named_and_indexed(tmp_path: Path, reference: Path, version: CallerVersion) -> None:
    calls = write(tmp_path / "calls.vcf", "a 29 A C 50 0/1", "b 3 G T 50 1/1", "a 10 A G 50 0/1")
    found = collect_calls("freebayes", calls, reference, "P001", tmp_path / "out.vcf.gz", version)
    assert (found.records, found.software) == (3, "freebayes 1.3.6")
    assert [row[:2] for row in rows(tmp_path / "out.vcf.gz")] == [["a", "10"], ["a", "29"], ["b", "3"]]
    with pysam.VariantFile(str(tmp_path / "out.vcf.gz")) as out:
        assert list(out.header.samples) == ["P001"]
        assert [record.pos for record in out.fetch("a")] == [10, 29]


def test_collect_calls__below_the_authors_quality_is_marked_and_kept(
    tmp_path: Path, reference: Path, version: CallerVersion
) -> None:
    calls = write(tmp_path / "calls.vcf", "a 10 A G 0.5 0/1", "a 29 A C 50 0/1")
    assert collect_calls("freebayes", calls, reference, "P", tmp_path / "f.vcf.gz", version).low_quality == 1
    assert [row[6] for row in rows(tmp_path / "f.vcf.gz")] == ["LowQual", "."]
    assert [one.start for one in read_variants(tmp_path / "f.vcf.gz", reference, [("a", 0, 216)])] == [28]
    assert collect_calls("gatk", calls, reference, "P", tmp_path / "g.vcf.gz", version).low_quality == 0


def test_collect_calls__both_alleles_of_one_place_stay(tmp_path: Path, reference: Path, version: CallerVersion) -> None:
    # nf-core/sarek #2216: `bcftools norm -m -both --rm-dup all` keeps the first of two alleles at one position.
    calls = write(tmp_path / "calls.vcf", "a 9 G C,T 50 1/2", "a 29 A C 50 0/1", "a 29 A G 50 0/1", "a 29 A G 50 0/1")
    collect_calls("deepvariant", calls, reference, "P", tmp_path / "out.vcf.gz", version)
    found = read_variants(tmp_path / "out.vcf.gz", reference, [("a", 0, 216)])
    assert [(one.start, one.ref, one.alt, one.dosage) for one in found] == [
        (8, "G", "C", 1),
        (8, "G", "T", 1),
        (28, "A", "C", 1),
        (28, "A", "G", 1),
    ]


def test_collect_calls__wrong_contigs_are_refused(tmp_path: Path, reference: Path, version: CallerVersion) -> None:
    other = write(tmp_path / "other.vcf", "chr1 30 A C 50 0/1", contigs=["chr1"])  # type: ignore[arg-type]
    with pytest.raises(FedcallError, match=r"other\.vcf: no contig in common with .*found chr1; reference has a, b"):
        collect_calls("gatk", other, reference, "P", tmp_path / "out.vcf.gz", version)
    assert not (tmp_path / "out.vcf.gz").exists()


@pytest.mark.parametrize("content", ["", "no VCF at all\n"])
def test_collect_calls__what_is_no_vcf_is_refused(
    content: str, tmp_path: Path, reference: Path, version: CallerVersion
) -> None:
    (tmp_path / "calls.vcf").write_text(content)
    with pytest.raises(FedcallError, match=r"calls\.vcf: "):
        collect_calls("gatk", tmp_path / "calls.vcf", reference, "P", tmp_path / "out.vcf.gz", version)
    with pytest.raises(FedcallError, match="no such"):
        collect_calls("gatk", tmp_path / "none.vcf", reference, "P", tmp_path / "out.vcf.gz", version)


def test_collect_calls__names_the_image_and_its_digest(tmp_path: Path, reference: Path) -> None:
    image = tmp_path / "image.sif"
    image.write_bytes(b"layers")
    version = tmp_path / "version.txt"
    version.write_text(f"DeepVariant version 1.10.0\nimage {image}\n")
    calls = write(tmp_path / "calls.vcf", "a 29 A C 50 0/1")
    provenance = CallerVersion(version, "docker://google/deepvariant:1.10.0")
    collect_calls("deepvariant", calls, reference, "P", tmp_path / "out.vcf.gz", provenance)
    stated = software_of(tmp_path / "out.vcf.gz", "deepvariant")
    assert stated.software == "deepvariant 1.10.0"
    assert stated.image == f"docker://google/deepvariant:1.10.0 sha256:{hashlib.sha256(b'layers').hexdigest()}"
    # Outside of a container the variable is empty, and no image is claimed.
    version.write_text("DeepVariant version 1.10.0\nimage \n")
    collect_calls("deepvariant", calls, reference, "P", tmp_path / "bare.vcf.gz", provenance)
    assert software_of(tmp_path / "bare.vcf.gz", "deepvariant").image is None


@pytest.mark.parametrize(("caller", "contig", "records"), [("deepvariant", "chr20", 22), ("gatk", "20", 19)])
def test_collect_calls__real_outputs(
    caller: str, contig: str, records: int, tmp_path: Path, version: CallerVersion
) -> None:
    reference = tmp_path / "genome.fa"
    reference.write_text(f">{contig}\nACGT\n")
    Path(f"{reference}.fai").write_text(f"{contig}\t63025520\t{len(contig) + 2}\t4\t5\n")
    found = collect_calls(
        caller,  # type: ignore[arg-type]
        DATA / f"{caller}.vcf",
        reference,
        "NA12878",
        tmp_path / "out.vcf.gz",
        version,
    )
    assert found.records == records
    before = [line.split("\t") for line in (DATA / f"{caller}.vcf").read_text().splitlines() if line[0] != "#"]
    assert rows(tmp_path / "out.vcf.gz") == before
