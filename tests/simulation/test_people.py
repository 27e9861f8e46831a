"""Patients made of real people's haplotypes, and what a panel of others gains on them."""

import json
from pathlib import Path

import numpy as np
import pysam
import pytest
import typer
from typer.testing import CliRunner

from fedcall.benchmarks.panel import PanelBenchmark, as_text
from fedcall.cli.benchmark import register
from fedcall.errors import FedcallError
from fedcall.genomics.calling.panel import open_panel
from fedcall.genomics.concordance.comparison import compare
from fedcall.simulation.cohort import write_reference
from fedcall.simulation.genome import Genome, make_genome, make_population
from fedcall.simulation.people import panel_counts, read_people, write_panel, write_person
from fedcall.simulation.reads import CONTIG

LENGTH, PEOPLE = 12_000, 40
HEADER = '##fileformat=VCFv4.2\n##contig=<ID=sim1>\n##FORMAT=<ID=GT,Number=1,Type=String,Description="x">\n'
COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A reference, and the phased haplotypes of 40 people."""
    folder = tmp_path_factory.mktemp("people")
    rng = np.random.default_rng(5)
    genome = make_genome(rng, LENGTH)
    population = make_population(rng, genome)
    write_reference(genome, folder / "reference.fa")
    text = HEADER + COLUMNS + "\t".join(f"P{k}" for k in range(PEOPLE)) + "\n"
    for site, position in enumerate(population.positions):
        pairs = population.founders[: 2 * PEOPLE, site].reshape(PEOPLE, 2)
        genotypes = "\t".join(f"{one}|{other}" for one, other in pairs)
        text += f"sim1\t{position + 1}\t.\t{population.refs[site]}\t{population.alts[site]}\t.\t.\t.\tGT\t{genotypes}\n"
    (folder / "haplotypes.vcf").write_text(text)
    return folder / "haplotypes.vcf", folder / "reference.fa"


def test_write_person__reads_and_truth_are_those_of_the_person(files: tuple[Path, Path], tmp_path: Path) -> None:
    people = read_people(*files)
    alignments, truth = write_person(people, 3, 20.0, 1, tmp_path)
    (tmp_path / "all.bed").write_text(f"{CONTIG}\t0\t{LENGTH}\n")
    pysam.tabix_compress(str(files[0]), str(tmp_path / "h.vcf.gz"))
    pysam.tabix_index(str(tmp_path / "h.vcf.gz"), preset="vcf")
    scored = compare(tmp_path / "h.vcf.gz", truth, tmp_path / "all.bed", files[1], sample="P3")
    assert scored.all.f1 == 1
    assert scored.all.tp > 10
    with pysam.AlignmentFile(str(alignments)) as reads:
        assert 15 < sum(read.query_length for read in reads) / LENGTH < 25
    again = tmp_path / "again"
    again.mkdir()
    assert write_person(people, 3, 20.0, 1, again)[0].read_bytes() == alignments.read_bytes()
    assert write_person(people, 3, 20.0, 2, again)[0].read_bytes() != alignments.read_bytes()


def test_write_panel__counts_the_members(files: tuple[Path, Path], tmp_path: Path) -> None:
    people = read_people(*files)
    members = list(range(10, 30))
    write_panel(people, members, tmp_path / "panel.vcf.gz")
    assert open_panel(tmp_path / "panel.vcf.gz", files[1]).source == "counts"
    with pysam.VariantFile(str(tmp_path / "panel.vcf.gz")) as panel, pysam.VariantFile(str(files[0])) as everybody:
        found = {(record.pos, record.ref, record.alts): record.info["AC"][0] for record in panel}
        expected = {
            (record.pos, record.ref, record.alts): sum(sum(record.samples[member]["GT"]) for member in members)
            for record in everybody
        }
    assert found == {allele: copies for allele, copies in expected.items() if copies}
    assert len(found) < len(expected)


@pytest.mark.real_data
def test_read_people__frequencies_are_those_of_the_file(shared_data: Path) -> None:
    folder = shared_data / "haplotypes_1kgp"
    people = read_people(folder / "haplotypes.vcf.gz", folder / "reference.fa.gz")
    assert len(people.names) == 200
    with pysam.VariantFile(str(folder / "haplotypes.vcf.gz")) as variants:
        copies = sorted(record.info["AC"] for record in variants)
    assert sorted(panel_counts(people, list(range(200)))) == copies


def test_write_person__of_overlapping_variants_the_first_stays(tmp_path: Path) -> None:
    write_reference(Genome(np.tile(np.array([0, 1, 2, 3, 1, 3], np.uint8), 200), ()), tmp_path / "r.fa")
    records = [
        "601\t.\tACGT\tA\t.\t.\t.\tGT\t1|0",
        "603\t.\tG\tC\t.\t.\t.\tGT\t1|1",
        "700\t.\tT\tC,G\t.\t.\t.\tGT\t1|2",
    ]
    (tmp_path / "h.vcf").write_text(HEADER + COLUMNS + "P\n" + "".join(f"sim1\t{record}\n" for record in records))
    _, truth = write_person(read_people(tmp_path / "h.vcf", tmp_path / "r.fa"), 0, 2.0, 1, tmp_path)
    with pysam.VariantFile(str(truth)) as variants:
        found = {(record.pos, record.alts[0]): record.samples[0]["GT"] for record in variants}
    assert found == {(601, "A"): (1, 0), (603, "C"): (0, 1), (700, "C"): (1, 0), (700, "G"): (0, 1)}


@pytest.mark.parametrize(
    ("genotype", "message"),
    [("0/1", "two phased alleles"), (".|1", "two phased alleles"), ("1", "two phased alleles")],
)
def test_read_people__refuses_unphased(tmp_path: Path, genotype: str, message: str) -> None:
    write_reference(Genome(np.zeros(600, np.uint8), ()), tmp_path / "r.fa")
    (tmp_path / "h.vcf").write_text(HEADER + COLUMNS + f"P\nsim1\t300\t.\tA\tC\t.\t.\t.\tGT\t{genotype}\n")
    with pytest.raises(FedcallError, match=f"sim1:300: {message}"):
        read_people(tmp_path / "h.vcf", tmp_path / "r.fa")


def test_read_people__nobody(tmp_path: Path) -> None:
    write_reference(Genome(np.zeros(600, np.uint8), ()), tmp_path / "r.fa")
    (tmp_path / "h.vcf").write_text(HEADER + COLUMNS + "P\n")
    with pytest.raises(FedcallError, match="no people, or no variants on a contig of"):
        read_people(tmp_path / "h.vcf", tmp_path / "r.fa")


def test_benchmark_panel__gains_at_low_depth(files: tuple[Path, Path]) -> None:
    app = typer.Typer()
    register(app)
    words = ["benchmark", "panel", "--haplotypes", str(files[0]), "--reference", str(files[1]), "--depth", "4"]
    result = CliRunner().invoke(app, [*words, "--patients", "3", "--panel-people", "30", "--json"])
    assert result.exit_code == 0, result.output
    assert max(map(len, as_text(PanelBenchmark.model_validate_json(result.stdout)).splitlines())) <= 80
    found = json.loads(result.stdout)
    snps, indels = found["rows"]
    assert (snps["depth"], snps["kind"], indels["kind"]) == (4, "snps", "indels")
    assert snps["with_panel"]["f1"] > snps["without"]["f1"] + 0.02
    low, high = snps["f1_gain_interval"]
    assert low <= snps["with_panel"]["f1"] - snps["without"]["f1"] <= high
    refused = CliRunner().invoke(app, [*words, "--patients", "30", "--panel-people", "30"])
    assert "40 people, fewer than 30 patients and 30 others" in str(refused.exception)
