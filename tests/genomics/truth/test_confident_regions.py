"""Confident regions of a gVCF: where the caller is sure, and nowhere else."""

import re
from pathlib import Path

import pysam
import pytest

from fedcall.errors import FedcallError
from fedcall.genomics.regions import read_regions
from fedcall.genomics.truth.confident_regions import write_confident_regions

LENGTHS = {"c1": 1_000, "c2": 500}
GATK = [
    "c1 1 . A <NON_REF> . . END=99 GT:DP:GQ 0/0:31:90",
    "c1 100 . A C,<NON_REF> 800 . DP=30 GT:DP:GQ 0/1:30:99",
    "c1 101 . A <NON_REF> . . END=200 GT:DP:GQ 0/0:9:20",
    "c1 201 . A <NON_REF> . . END=300 GT:DP:GQ 0/0:3:19",
    "c1 301 . AAA A,<NON_REF> 90 . DP=30 GT:DP:GQ 0/1:30:40",
    "c1 304 . A <NON_REF> . . END=400 GT:DP:GQ ./.:0:99",
    "c1 401 . A C,<NON_REF> 9 LowQual DP=30 GT:DP:GQ 0/1:30:99",
    "c2 1 . A <NON_REF> . . END=500 GT:DP:GQ 0/0:30:50",
]
DEEP_VARIANT = [
    "c1 1 . A <*> 0 . END=50 GT:DP:GQ 0/0:30:50",
    "c1 51 . A G,<*> 1 RefCall . GT:DP:GQ 0/0:30:25",
    "c1 52 . A G,<*> 1 RefCall . GT:DP:GQ ./.:30:25",
]


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "reference.fa"
    path.write_text("".join(f">{name}\n{'A' * length}\n" for name, length in LENGTHS.items()))
    pysam.faidx(str(path))
    return path


def gvcf(path: Path, rows: list[str], samples: str = "p1") -> Path:
    lines = ["##fileformat=VCFv4.2", *(f"##contig=<ID={name},length={length}>" for name, length in LENGTHS.items())]
    lines += ['##ALT=<ID=NON_REF,Description="x">', '##FILTER=<ID=RefCall,Description="x">']
    lines += ['##FILTER=<ID=LowQual,Description="x">', '##INFO=<ID=DP,Number=1,Type=Integer,Description="x">']
    lines += ['##INFO=<ID=END,Number=1,Type=Integer,Description="x">']
    lines += ['##FORMAT=<ID=GT,Number=1,Type=String,Description="x">']
    lines += [f'##FORMAT=<ID={key},Number=1,Type=Integer,Description="x">' for key in ("DP", "GQ")]
    lines.append("\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *samples.split()]))
    path.write_text("\n".join([*lines, *("\t".join(row.split()) for row in rows)]) + "\n")
    return path


def test_write_confident_regions__of_haplotype_caller(reference: Path, tmp_path: Path) -> None:
    bed = tmp_path / "o.bed"
    bases = write_confident_regions(gvcf(tmp_path / "g.vcf", GATK), reference, bed)
    assert read_regions(bed, reference) == [("c1", 0, 200), ("c1", 300, 303), ("c2", 0, 500)]
    assert bases == 703


def test_write_confident_regions__of_deep_variant(reference: Path, tmp_path: Path) -> None:
    bed = tmp_path / "o.bed"
    write_confident_regions(gvcf(tmp_path / "g.vcf", DEEP_VARIANT), reference, bed)
    assert read_regions(bed, reference) == [("c1", 0, 51)]


def test_write_confident_regions__of_one_sample_of_two(reference: Path, tmp_path: Path) -> None:
    rows = ["c1 1 . A <NON_REF> . . END=10 GT:DP:GQ 0/0:9:5 0/0:9:50"]
    path = gvcf(tmp_path / "g.vcf", rows, samples="p1 p2")
    assert write_confident_regions(path, reference, tmp_path / "o.bed", sample="p2") == 10
    with pytest.raises(FedcallError, match="no genotype with GQ 20 or more"):
        write_confident_regions(path, reference, tmp_path / "o.bed", sample="p1")


def test_write_confident_regions__a_vcf_of_variants_only_says_nothing(reference: Path, tmp_path: Path) -> None:
    path = gvcf(tmp_path / "v.vcf", ["c1 100 . A C 800 PASS . GT:DP:GQ 0/1:30:99"])
    with pytest.raises(FedcallError, match=re.escape(f"{path}: no blocks without variation, so it is no gVCF")):
        write_confident_regions(path, reference, tmp_path / "o.bed")
    assert not (tmp_path / "o.bed").exists()


def test_write_confident_regions__blocks_without_end_as_of_vcf_4_5(tmp_path: Path, reference: Path) -> None:
    rows = ["c1 1 . A <*> . . . GT:GQ:LEN 0/0:50:100", "c1 101 . A <*> . . . GT:GQ:LEN 0/0:9:50"]
    rows += ["c1 151 . A <*> . . . GT:GQ:LEN 0/0:50:.", "c1 160 . A <*> . . . GT:GQ:LEN 0/0:50:41"]
    output = tmp_path / "sure.bed"
    assert write_confident_regions(gvcf(tmp_path / "in.g.vcf", rows), reference, output) == 142
    assert output.read_text() == "c1\t0\t100\nc1\t150\t151\nc1\t159\t200\n"


@pytest.mark.parametrize("info", ["END=140", "SVLEN=-40", "SVLEN=40", "SVTYPE=DEL;END=140;SVLEN=."])
def test_write_confident_regions__an_unsure_symbolic_deletion_reaches_as_far_as_it_says(
    tmp_path: Path, reference: Path, info: str
) -> None:
    rows = ["c1 1 . A <NON_REF> . . END=200 GT:GQ 0/0:50", f"c1 100 . A <DEL>,<NON_REF> . . {info} GT:GQ 0/1:3"]
    output = tmp_path / "sure.bed"
    write_confident_regions(gvcf(tmp_path / "in.g.vcf", rows), reference, output)
    assert output.read_text() == "c1\t0\t99\nc1\t140\t200\n"
