"""Point 2 of the promise: the same human being is found from reads and genotypes, and nobody else is."""

from pathlib import Path

import numpy as np
import pysam
import pytest

from fedcall.benchmarks.relatives import measure
from fedcall.genomics.identity.comparison import Comparison, compare_people, link_weights
from fedcall.genomics.identity.sketch import Sketch, SketchFolder, choose_windows, make_sketch, read_sketch
from fedcall.genomics.pileup.candidates import base_codes
from fedcall.simulation.people import People, read_people, write_person
from made_people import made_people


@pytest.fixture(scope="module")
def ceu(shared_data: Path) -> Path:
    return shared_data / "ceu_1000g"


@pytest.fixture(scope="module")
def everybody(ceu: Path) -> list[Sketch]:
    """Return the sketches of 36 real people, 150 kb at 2-9x."""
    return [make_sketch(path, ceu / "reference.fa.gz", ceu / "regions.bed") for path in sorted(ceu.glob("*.bam"))]


@pytest.fixture(scope="module")
def people(shared_data: Path) -> People:
    folder = shared_data / "haplotypes_1kgp"
    return read_people(folder / "haplotypes.vcf.gz", folder / "reference.fa.gz")


def half_of(alignments: Path, output: Path, seed: int) -> Path:
    pysam.view("-b", "-s", f"{seed}.5", "-o", str(output), str(alignments), catch_stdout=False)
    pysam.index(str(output))
    return output


def with_other_names(alignments: Path, output: Path) -> Path:
    with pysam.AlignmentFile(str(alignments)) as reads, pysam.AlignmentFile(str(output), "wb", template=reads) as copy:
        for number, read in enumerate(reads.fetch(until_eof=True)):
            read.query_name = f"r{number}"
            copy.write(read)
    pysam.index(str(output))
    return output


def found(comparison: Comparison) -> set[tuple[int, int]]:
    return {(pair.one, pair.other) for pair in comparison.pairs if pair.are_one}


def test_point_2__no_false_match_among_630_pairs_of_real_people(everybody: list[Sketch]) -> None:
    comparison = compare_people(everybody)
    assert len(comparison.pairs) == 630
    assert found(comparison) == set()
    # 150 kb cannot tell them apart by genotypes, and nothing is claimed: least of all that they are unrelated.
    assert {pair.verdict for pair in comparison.pairs} == {"cannot tell"}


@pytest.mark.slow
@pytest.mark.parametrize("change", [lambda path, to: half_of(path, to, 3), with_other_names], ids=["half", "renamed"])
def test_point_2__the_same_person_under_two_names_is_found_among_all_pairs(
    ceu: Path, everybody: list[Sketch], tmp_path: Path, change
) -> None:
    names = sorted(path.stem for path in ceu.glob("*.bam"))
    copies = [
        make_sketch(change(ceu / f"{name}.bam", tmp_path / f"{name}.bam"), ceu / "reference.fa.gz", ceu / "regions.bed")
        for name in names
    ]
    assert found(compare_people([*everybody, *copies])) == {(place, place + 36) for place in range(36)}


@pytest.mark.slow
def test_point_2__one_person_sequenced_twice_is_found_and_nobody_else(
    people: People, tmp_path: Path, shared_data: Path
) -> None:
    """Reads of the project's simulator, 500 kb at 10x: two sequencings of one child, both parents, twelve others.

    The two share no read, and the second library errs at other places. Each has 700 places at which everybody's reads
    err again and again; they are no genotypes, and say nothing.
    """
    population = people.population
    child = np.stack([population.founders[0], population.founders[2]])
    founders = np.concatenate([population.founders, child])
    family = People(
        (*people.names, "child"),
        people.genome,
        type(population)(population.positions, population.refs, population.alts, founders),
    )
    reference = shared_data / "haplotypes_1kgp/reference.fa.gz"
    sketches = []
    for library, person in [(0, 200), (1, 200), *((0, number) for number in range(14))]:
        folder = tmp_path / f"{library}.{person}"
        folder.mkdir()
        alignments, _ = write_person(family, person, 10.0, 1 + library, folder, library=library)
        sketches.append(make_sketch(alignments, _renamed(reference, alignments, tmp_path)))
        alignments.unlink()
    comparison = compare_people(sketches)
    assert found(comparison) == {(0, 1)}
    verdicts = {(pair.one, pair.other): pair.verdict for pair in comparison.pairs}
    assert comparison.pairs[0].apart > -8 > max(pair.apart for pair in comparison.pairs[1:])
    # The child's parents are the first two of the others; one region is too little to tell a relative.
    related = {pair for pair, verdict in verdicts.items() if verdict == "relatives"}
    assert related <= {(0, 2), (0, 3), (1, 2), (1, 3)}


def _renamed(reference: Path, alignments: Path, folder: Path) -> Path:
    """Return the reference under the contig's name in simulated alignments."""
    path = folder / "reference.fa"
    if not path.exists():
        with pysam.FastaFile(str(reference)) as fasta, pysam.AlignmentFile(str(alignments)) as reads:
            path.write_text(f">{reads.references[0]}\n{fasta.fetch(fasta.references[0])}\n")
        pysam.faidx(str(path))
    return path


def test_measure__relatives_need_many_regions_and_a_few_say_nothing(people: People) -> None:
    few = measure(people, regions=1, kilobases=150, depth=4, families=10)
    assert few.found["unrelated"] == few.found["same"] == 0
    many = measure(people, regions=20, kilobases=150, depth=10, families=10)
    assert many.found["same"] == many.found["parent and child"] == 1
    assert many.found["siblings"] > 0.9
    one = measure(people, regions=1, kilobases=500, depth=10, families=40)
    assert (one.found["same"], one.found["unrelated"]) == (1, 0), "one person is found in one piece of 500 kb"
    assert many.found["unrelated"] == 0


@pytest.mark.parametrize(("regions", "depth"), [(8, 30), (20, 10)])
def test_point_2__duplicates_and_relatives_are_shown_where_there_are_regions_enough(regions: int, depth: float) -> None:
    """Families of made-up people, without any data beside this checkout."""
    row = measure(made_people(60), regions=regions, kilobases=150, depth=depth, families=8)
    assert row.found == {"same": 1, "parent and child": 1, "siblings": 1, "unrelated": 0}
    assert row.pairs == {"same": 8, "parent and child": 48, "siblings": 16, "unrelated": 708}


def test_sketches__are_for_their_owner_alone_and_made_once(ceu: Path, tmp_path: Path) -> None:
    folder = SketchFolder(tmp_path / "private/north/sketches")
    person = (ceu / "NA12043.bam", ceu / "reference.fa.gz", ceu / "regions.bed")
    (name, sketch), *_ = folder.sketches([person])
    files = {path.name: path.stat() for path in folder.folder.iterdir()}
    assert set(files) == {"key", f"{name}.npz"}
    assert {found.st_mode & 0o777 for found in files.values()} == {0o600}
    assert folder.folder.stat().st_mode & 0o777 == 0o700
    again = folder.sketches([person])
    assert again[0][0] == name
    assert (folder.folder / f"{name}.npz").stat().st_mtime_ns == files[f"{name}.npz"].st_mtime_ns
    assert np.array_equal(read_sketch(folder.folder / f"{name}.npz").counts, sketch.counts)
    # Nobody without the folder's key can look for a file in a copy of the folder.
    assert SketchFolder(tmp_path / "other").sketches([person])[0][0] != name


def test_make_sketch__counts_are_those_of_pysam(ceu: Path) -> None:
    path, start, end = ceu / "NA12043.bam", 20_000_000, 20_150_000
    sketch = make_sketch(path, ceu / "reference.fa.gz", ceu / "regions.bed")
    with pysam.AlignmentFile(str(path)) as reads:
        kept = lambda read: not read.flag & 0xF04 and read.mapping_quality >= 5  # noqa: E731
        counts = np.array(reads.count_coverage("20", start, end, quality_threshold=10, read_callback=kept)).T
    assert sketch.windows.tolist() == [[0, start, end]]
    # Bases of overlapping mates count once here.
    assert np.all(sketch.counts <= counts)
    assert sketch.counts.sum() > 0.9 * counts.sum()
    with pysam.FastaFile(str(ceu / "reference.fa.gz")) as fasta:
        codes = np.asarray(base_codes(fasta.fetch("20", start, end).upper()))
    covered = sketch.counts.sum(1) > 3
    assert (sketch.counts.argmax(1) == codes)[covered].mean() > 0.99


def test_choose_windows__large_regions_share_windows_with_small_ones() -> None:
    small = [("1", 0, 1_000_000)]
    assert choose_windows(small) == small
    large = choose_windows([("1", 0, 200_000_000)])
    assert 1_000_000 <= sum(end - start for _, start, end in large) <= 2_000_000
    genome = {start for _, start, _ in choose_windows([("1", 0, 3_000_000_000)]) if start < 200_000_000}
    assert genome
    assert genome <= {start for _, start, _ in large}


def test_link_weights__a_crowd_of_linked_sites_counts_little_and_a_lonely_one_as_one() -> None:
    crowd = np.arange(0, 20_000, 50)
    weights = link_weights(np.zeros(len(crowd) + 1, np.int64), np.append(crowd, 5_000_000))
    assert weights[-1] == pytest.approx(1, abs=1e-6)
    assert weights[:-1].sum() < 5
