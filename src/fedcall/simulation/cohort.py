"""Make a cohort whose truth is known: a reference, patients of several hospitals, and public ones."""

import tempfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pysam

from fedcall.files import atomic_path, write_text
from fedcall.genomics.htslib import run_samtools
from fedcall.progress import tracked
from fedcall.simulation.errors import RecurrentErrors, draw_oxidised, draw_recurrent
from fedcall.simulation.genome import (
    Genome,
    Haplotype,
    Population,
    build_haplotype,
    draw_alleles,
    make_genome,
    make_population,
)
from fedcall.simulation.reads import (
    CONTIG,
    READ_LENGTH,
    DepthProfile,
    Library,
    draw_profile,
    hidden_copies,
    sequence,
)
from fedcall.workflow.configuration import COLUMNS, SimulatedCohort

MARGIN = 2 * READ_LENGTH  # bases at both ends of the contig where depth is still rising
FASTA_WIDTH = 60


@dataclass(frozen=True)
class World:
    """What all patients of a cohort share."""

    genome: Genome
    population: Population
    hidden: list[Haplotype]
    recurrent: RecurrentErrors
    profile: DepthProfile


def simulate_cohort(cohort: SimulatedCohort, output: Path, threads: int = 1) -> None:
    """Write reference, alignments, truth, regions and the sheet of a cohort.

    Parameters
    ----------
    cohort : SimulatedCohort
        Seed and sizes. Every file's bytes depend on these only, whatever the number of threads.
    output : Path
        Folder; `reference.fa`, `regions.bed`, and `{patient}.bam` and `{patient}.truth.vcf.gz` with their indexes
        go there, and at last `samples.tsv`, which names them.
    threads : int
        Patients made at the same time.
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    world = make_world(cohort)
    write_reference(world.genome, output / "reference.fa")
    length = len(world.genome.bases)
    write_text(output / "regions.bed", f"{CONTIG}\t{MARGIN}\t{length - MARGIN}\n")
    jobs = [(index, patient, split != "public") for index, (patient, _, split) in enumerate(cohort.rows)]
    if threads == 1:
        for job in tracked(jobs, "simulation", "patients"):
            _write_patient(world, cohort, output, *job)
    else:
        with ProcessPoolExecutor(threads, initializer=_start_worker, initargs=(cohort, output)) as pool:
            for _ in tracked(pool.map(_work, jobs, chunksize=4), "simulation", "patients", len(jobs)):
                pass
    rows = [
        (patient, site, f"{patient}.bam", f"{patient}.truth.vcf.gz", "regions.bed", split, "no")
        for patient, site, split in cohort.rows
    ]
    write_text(output / "samples.tsv", "".join("\t".join(row) + "\n" for row in [(*COLUMNS, "private"), *rows]))


def make_world(cohort: SimulatedCohort) -> World:
    """Return what all patients of the cohort share; it depends on the seed and the region's length."""
    rng = np.random.default_rng([cohort.seed, 0])
    genome = make_genome(rng, cohort.region_length)
    return World(
        genome=genome,
        population=make_population(rng, genome),
        hidden=hidden_copies(rng, genome),
        recurrent=draw_recurrent(rng, genome),
        profile=draw_profile(rng, cohort.region_length, knot_spacing=300, deviation=0.3),
    )


_worker: tuple[World, SimulatedCohort, Path]


def _start_worker(cohort: SimulatedCohort, output: Path) -> None:
    global _worker  # one world per process, instead of one per patient
    _worker = (make_world(cohort), cohort, output)


def _work(job: tuple[int, str, bool]) -> None:
    _write_patient(*_worker, *job)


def _write_patient(
    world: World, cohort: SimulatedCohort, output: Path, index: int, patient: str, is_private: bool
) -> None:
    rng = np.random.default_rng([cohort.seed, 1, index])
    alleles = draw_alleles(rng, world.population)
    haplotypes = [build_haplotype(world.genome, world.population, carried) for carried in alleles]
    length = len(world.genome.bases)
    profile = world.profile.combined(draw_profile(rng, length, knot_spacing=1_000, deviation=0.15))
    depth = cohort.depth * float(np.exp(rng.normal(0, 0.2)))
    library = Library(profile, world.recurrent, draw_oxidised(rng, world.genome) if is_private else None, patient)
    blocks = sequence(rng, world.genome, haplotypes, world.hidden, depth, library)
    write_alignments(blocks, patient, length, output / f"{patient}.bam")
    write_truth(world.population, alleles, patient, length, output / f"{patient}.truth.vcf.gz")


def write_reference(genome: Genome, path: Path) -> None:
    """Write the one contig of a genome as FASTA with its index."""
    text = genome.text(0, len(genome.bases))
    lines = [text[start : start + FASTA_WIDTH] for start in range(0, len(text), FASTA_WIDTH)]
    write_text(path, f">{CONTIG}\n" + "\n".join(lines) + "\n")
    # The columns of a FASTA index: name, bases, offset of the first base, bases per line, bytes per line.
    write_text(Path(f"{path}.fai"), f"{CONTIG}\t{len(text)}\t{len(CONTIG) + 2}\t{FASTA_WIDTH}\t{FASTA_WIDTH + 1}\n")


def write_alignments(blocks: Iterable[str], patient: str, length: int, path: Path) -> None:
    """Write blocks of SAM lines as a sorted BAM with its index; `length` is that of the contig."""
    header = (
        f"@HD\tVN:1.6\tSO:unsorted\n@SQ\tSN:{CONTIG}\tLN:{length}\n"
        f"@RG\tID:{patient}\tSM:{patient}\tLB:{patient}\tPL:ILLUMINA\n"
    )
    with (
        tempfile.TemporaryDirectory(prefix=".simulate-", dir=path.parent) as folder,
        atomic_path(path) as bam,
        atomic_path(Path(f"{path}.bai")) as bai,
    ):
        sam = Path(folder) / "reads.sam"
        with open(sam, "w") as handle:
            handle.write(header)
            handle.writelines(blocks)
        run_samtools(path, "sort", ["--no-PG", "-T", f"{folder}/sort", "-o", str(bam), str(sam)])
        run_samtools(path, "index", ["-o", str(bai), str(bam)])


def write_truth(population: Population, alleles: np.ndarray, patient: str, length: int, path: Path) -> None:
    """Write a patient's two haplotypes, uint8 (2, sites), as a bgzipped VCF with its index."""
    lines = [
        "##fileformat=VCFv4.3",
        '##FILTER=<ID=PASS,Description="All filters passed">',
        f"##contig=<ID={CONTIG},length={length}>",
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype, phased">',
        f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{patient}",
    ]
    for site in np.flatnonzero(alleles.any(axis=0)):
        position, ref, alt = population.positions[site] + 1, population.refs[site], population.alts[site]
        genotype = f"{alleles[0, site]}|{alleles[1, site]}"
        lines.append(f"{CONTIG}\t{position}\t.\t{ref}\t{alt}\t.\tPASS\t.\tGT\t{genotype}")
    with atomic_path(path) as vcf, atomic_path(Path(f"{path}.tbi")) as tbi:
        with pysam.BGZFile(str(vcf), "wb") as handle:
            handle.write(("\n".join(lines) + "\n").encode())
        pysam.tabix_index(str(vcf), preset="vcf", force=True, index=str(tbi))
