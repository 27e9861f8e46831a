"""What hospitals bring: reads in place of alignments, a gVCF in place of a truth set and of its regions."""

from pathlib import Path

import pysam
import pytest
import yaml

from fedcall.genomics.examples import open_examples
from fedcall.genomics.regions import read_regions
from fedcall.simulation.cohort import simulate_cohort
from fedcall.workflow.configuration import SimulatedCohort
from rehearsal_workspace import COHORT, STUDY, Workspace


@pytest.fixture
def hospital(tmp_path: Path) -> Workspace:
    """A hospital of one patient with FASTQ files and a gVCF, and another with a BAM, a VCF and a BED."""
    folder = tmp_path / "data"
    simulate_cohort(SimulatedCohort(**COHORT), folder)
    fastq(folder / "north-001.bam", folder)
    gvcf(folder / "north-001.truth.vcf.gz", folder / "calls.g.vcf.gz", folder / "reference.fa")
    columns = ("patient", "site", "alignments", "reads1", "reads2", "truth", "regions", "split", "sample", "private")
    rows = [
        ("P1", "north", "", "1.fastq", "2.fastq", "calls.g.vcf.gz", "calls.g.vcf.gz", "train", "north-001", "no"),
        ("P2", "north", "north-002.bam", "", "", "north-002.truth.vcf.gz", "regions.bed", "train", "north-002", "no"),
    ]
    (folder / "samples.tsv").write_text("".join("\t".join(row) + "\n" for row in (columns, *rows)))
    workspace = Workspace.create(tmp_path / "workspace", {}, STUDY)
    configuration = {
        "study": "config/study.yaml",
        "samples": str(folder / "samples.tsv"),
        "reference": str(folder / "reference.fa"),
    }
    (workspace.path / "config/config.yaml").write_text(yaml.safe_dump(configuration))
    return workspace


def test_workflow__reads_and_a_gvcf_become_examples(hospital: Workspace) -> None:
    results = Path("results") / STUDY["name"] / "north"
    files = [results / "examples" / f"{patient}.safetensors" for patient in ("P1", "P2")]
    run = hospital.snakemake("--quiet", "rules", "reason", "--", *files)
    assert run.returncode == 0, run.stdout[-4000:]
    aligned, given = (open_examples(hospital.path / file) for file in files)
    assert len(given) > 10
    assert len(aligned) > 10
    assert (aligned.labels > 0).sum() > 3
    regions = read_regions(hospital.path / results / "regions/P1.bed", hospital.path.parent / "data/reference.fa")
    assert all(any(start <= position < end for _, start, end in regions) for position in aligned.position.tolist())
    assert not (hospital.path / results / "aligned/P1.bam").exists()  # an intermediate file


def fastq(alignments: Path, folder: Path) -> None:
    """Write the reads of a BAM back as they came from the sequencer."""
    pysam.fastq(
        "-1", str(folder / "1.fastq"), "-2", str(folder / "2.fastq"), "-0", "/dev/null", "-s", "/dev/null", "-n",
        str(collated(alignments, folder)), catch_stdout=False,
    )  # fmt: skip


def collated(alignments: Path, folder: Path) -> Path:
    pysam.collate("-o", str(folder / "collated.bam"), str(alignments))
    return folder / "collated.bam"


def gvcf(truth: Path, output: Path, reference: Path) -> None:
    """Write what HaplotypeCaller would: the variants, and one block between each two of them."""
    with pysam.VariantFile(str(truth)) as source, pysam.FastaFile(str(reference)) as bases:
        records = [
            (record.contig, record.start, record.ref, record.alts[0], record.samples[0]["GT"]) for record in source
        ]
        contig, length = bases.references[0], bases.lengths[0]
        lines = ["##fileformat=VCFv4.2", f"##contig=<ID={contig},length={length}>"]
        lines += ['##ALT=<ID=NON_REF,Description="x">', '##INFO=<ID=END,Number=1,Type=Integer,Description="x">']
        lines += ['##FORMAT=<ID=GT,Number=1,Type=String,Description="x">']
        lines += ['##FORMAT=<ID=GQ,Number=1,Type=Integer,Description="x">']
        lines.append("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tnorth-001")
        place = 0
        for _, start, ref, alt, genotype in records:
            if start > place:
                block = (
                    f"{contig}\t{place + 1}\t.\t{bases.fetch(contig, place, place + 1)}\t<NON_REF>\t.\t.\tEND={start}"
                )
                lines.append(f"{block}\tGT:GQ\t0/0:60")
            written = "/".join(map(str, genotype))
            lines.append(f"{contig}\t{start + 1}\t.\t{ref}\t{alt},<NON_REF>\t500\t.\t.\tGT:GQ\t{written}:99")
            place = start + len(ref)
        tail = f"{contig}\t{place + 1}\t.\t{bases.fetch(contig, place, place + 1)}\t<NON_REF>\t.\t.\tEND={length}"
        lines.append(f"{tail}\tGT:GQ\t0/0:5")
    plain = output.with_suffix("")
    plain.write_text("\n".join(lines) + "\n")
    pysam.tabix_index(str(plain), preset="vcf", force=True)
