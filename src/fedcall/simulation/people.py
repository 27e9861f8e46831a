"""Patients with the haplotypes of real people, over real sequence: variants as rare and as close as they are."""

from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from fedcall.errors import FedcallError
from fedcall.genomics.alleles import Allele, normalise
from fedcall.genomics.reference import open_reference
from fedcall.genomics.vcf.bgzip import write_vcf
from fedcall.genomics.vcf.files import check_ref
from fedcall.genomics.vcf.rows import open_rows
from fedcall.simulation.cohort import write_alignments, write_truth
from fedcall.simulation.errors import RecurrentErrors, draw_recurrent
from fedcall.simulation.genome import Genome, Population, build_haplotype, encode_bases
from fedcall.simulation.reads import CONTIG, Library, draw_profile, sequence

_WHAT = "VCF of haplotypes"
_EVEN = 300, 0.3  # knots of the depth's profile every so many bases, and how it deviates, as in a simulated cohort


@dataclass(frozen=True)
class People:
    """Real haplotypes over a real reference of one contig; `population.founders` has two rows a person."""

    names: tuple[str, ...]
    genome: Genome
    population: Population


def read_people(haplotypes: Path, reference: Path) -> People:
    """Read phased genotypes of many people.

    Parameters
    ----------
    haplotypes : Path
        VCF with the phased genotypes of people, on one contig.
    reference : Path
        Indexed FASTA; its first contig with records of the VCF is taken, and must be spelled in A, C, G and T.

    Raises
    ------
    FedcallError
        If there are no people, no records, unphased or missing genotypes, or the two files do not fit.
    """
    carried: dict[Allele, np.ndarray] = {}
    with open_rows(haplotypes, _WHAT) as vcf, open_reference(reference) as fasta:
        names = tuple(vcf.samples)
        contig, text = "", ""
        for record in vcf.rows(everybody=True):
            if not contig and record.contig in fasta.references:
                contig, text = record.contig, fasta.fetch(record.contig).upper()
            if record.contig != contig:
                continue
            check_ref(haplotypes, "haplotypes", record, text, 0)
            genotypes = [genotype.alleles for genotype in record.genotypes()]
            phased = all(genotype.phased for genotype in record.genotypes())
            if not phased or any(len(pair) != 2 or None in pair for pair in genotypes):
                raise FedcallError(
                    f"{haplotypes}: {contig}:{record.start + 1}: two phased alleles of everybody are needed"
                )
            indices = np.array(genotypes, np.int64).ravel()
            for index, alt in enumerate(record.alts, start=1):
                has = (indices == index).astype(np.uint8)
                if set(alt) <= set("ACGT"):
                    for allele in normalise(Allele(record.start, record.ref, alt), text, 0):
                        carried[allele] = carried.get(allele, 0) | has
    alleles = sorted(allele for allele in carried if allele.is_snp or allele.is_indel)
    if not names or not alleles:
        raise FedcallError(f"{haplotypes}: no people, or no variants on a contig of {reference}")
    if not set(text) <= set("ACGT"):
        raise FedcallError(f"{reference}: contig '{contig}' holds bases other than A, C, G and T")
    population = Population(
        np.array([allele.position for allele in alleles], np.int64),
        tuple(allele.ref for allele in alleles),
        tuple(allele.alt for allele in alleles),
        np.stack([carried[allele] for allele in alleles], 1),
    )
    return People(names, Genome(encode_bases(text), ()), population)


def write_person(
    people: People, person: int, depth: float, seed: int, folder: Path, recurrent: bool = True, library: int = 0
) -> tuple[Path, Path]:
    """Write alignments and truth of one of the people; return both files.

    Depth varies along the contig, reads have errors, and everybody shares recurrent false sites (unless `recurrent` is
    false), as in a simulated cohort; no chemistry artefact. Of variants that overlap on a haplotype the first stays.
    Another `library` is another sequencing of the same person: other reads, the same places of false ones.
    """
    shared = np.random.default_rng([seed, 0])
    rng = np.random.default_rng([seed, 1, person, *([library] if library else [])])
    length, name = len(people.genome.bases), people.names[person]
    false_sites = draw_recurrent(shared, people.genome)
    if not recurrent:
        false_sites = RecurrentErrors(*(column[:0] for column in astuple(false_sites)))
    profile = draw_profile(shared, length, *_EVEN)
    alleles = np.stack([_without_overlaps(people.population, row) for row in people.population.founders[_rows(person)]])
    haplotypes = [build_haplotype(people.genome, people.population, carried) for carried in alleles]
    blocks = sequence(rng, people.genome, haplotypes, [], depth, Library(profile, false_sites, None, name))
    alignments, truth = folder / f"{name}.bam", folder / f"{name}.truth.vcf.gz"
    write_alignments(blocks, name, length, alignments)
    write_truth(people.population, alleles, name, length, truth)
    return alignments, truth


def panel_counts(people: People, members: list[int]) -> np.ndarray:
    """Return how many of the members' chromosomes carry each variant: int64, shape (sites,)."""
    rows = [row for member in members for row in (2 * member, 2 * member + 1)]
    alleles: np.ndarray = people.population.founders[rows].sum(0, dtype=np.int64)
    return alleles


def write_panel(people: People, members: list[int], path: Path) -> None:
    """Write the allele frequencies of some of the people as a panel for `fedcall call --panel`."""
    lines = [
        "##fileformat=VCFv4.3",
        f"##contig=<ID={CONTIG},length={len(people.genome.bases)}>",
        '##INFO=<ID=AC,Number=A,Type=Integer,Description="Chromosomes with the allele">',
        '##INFO=<ID=AN,Number=1,Type=Integer,Description="Chromosomes looked at">',
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO",
    ]
    sites = zip(
        people.population.positions,
        people.population.refs,
        people.population.alts,
        panel_counts(people, members),
        strict=True,
    )
    lines += [
        f"{CONTIG}\t{position + 1}\t.\t{ref}\t{alt}\t.\t.\tAC={copies};AN={2 * len(members)}"
        for position, ref, alt, copies in sites
        if copies
    ]
    write_vcf(path, lines)


def _rows(person: int) -> slice:
    return slice(2 * person, 2 * person + 2)


def _without_overlaps(population: Population, carried: np.ndarray) -> np.ndarray:
    """Return a haplotype without the variants that begin before the last one ends: uint8, shape (sites,)."""
    kept, free_from = np.zeros_like(carried), 0
    for site in np.flatnonzero(carried):
        start = int(population.positions[site])
        if start >= free_from:
            kept[site], free_from = 1, start + len(population.refs[site])
    return kept
