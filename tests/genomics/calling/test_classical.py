"""The bcftools baseline on a simulated patient."""

import gzip
from pathlib import Path

import pysam
import pytest

from fedcall.errors import FedcallError
from fedcall.genomics.calling.classical import call_classical
from fedcall.genomics.concordance.comparison import compare

PATIENT = "north-001"


@pytest.fixture(scope="module")
def calls(simulated_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("classical") / "calls.vcf.gz"
    inputs = simulated_cohort / f"{PATIENT}.bam", simulated_cohort / "reference.fa"
    call_classical(*inputs, output, simulated_cohort / "regions.bed", "somebody")
    return output


def test_call_classical__names_the_sample_and_no_path_or_time(calls, simulated_cohort):
    header = [line for line in gzip.decompress(calls.read_bytes()).decode().splitlines() if line.startswith("#")]
    assert header[-1].split("\t")[9:] == ["somebody"]
    assert "##reference=reference.fa" in header
    assert not [line for line in header if "/" in line.replace("GT:", "") and str(simulated_cohort.parent) in line]
    assert not [line for line in header if "Command" in line or "Date" in line]


def test_call_classical__equal_inputs_equal_bytes(calls, simulated_cohort, tmp_path):
    again = tmp_path / "elsewhere" / "again.vcf.gz"
    inputs = simulated_cohort / f"{PATIENT}.bam", simulated_cohort / "reference.fa"
    call_classical(*inputs, again, simulated_cohort / "regions.bed", "somebody")
    assert again.read_bytes() == calls.read_bytes()
    assert Path(f"{again}.tbi").read_bytes() == Path(f"{calls}.tbi").read_bytes()


def test_call_classical__finds_what_is_there(calls, simulated_cohort):
    with pysam.VariantFile(str(calls)) as file:
        record = next(iter(file))
        assert {"GT", "GQ", "PL", "DP", "AD"} <= set(record.format)
    truth, reference = simulated_cohort / f"{PATIENT}.truth.vcf.gz", simulated_cohort / "reference.fa"
    result = compare(truth, calls, simulated_cohort / "regions.bed", reference)
    assert result.snps.tp > 0
    assert result.snps.recall is not None
    assert result.snps.recall > 0.5


def test_call_classical__only_inside_the_regions(simulated_cohort, tmp_path):
    contig, start, end = (simulated_cohort / "regions.bed").read_text().split("\n")[0].split("\t")[:3]
    middle = (int(start) + int(end)) // 2
    part = tmp_path / "part.bed"
    part.write_text(f"{contig}\t{start}\t{middle}\n")
    output = tmp_path / "calls.vcf.gz"
    call_classical(simulated_cohort / f"{PATIENT}.bam", simulated_cohort / "reference.fa", output, part)
    with pysam.VariantFile(str(output)) as file:
        positions = [record.start for record in file]
    assert positions
    assert max(positions) < middle


def test_call_classical__no_index(simulated_cohort, tmp_path):
    alignments = tmp_path / "p.bam"
    alignments.write_bytes((simulated_cohort / f"{PATIENT}.bam").read_bytes())
    with pytest.raises(FedcallError, match="index is missing"):
        call_classical(alignments, simulated_cohort / "reference.fa", tmp_path / "out.vcf.gz")
    assert not (tmp_path / "out.vcf.gz").exists()
