"""Normalised labels: one patient's alleles, split, left-aligned, unique, in the regions, and nothing else."""

import random
from pathlib import Path

import pysam
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedcall.errors import FedcallError
from fedcall.genomics.truth.labels import label_types
from fedcall.genomics.truth.normalise_labels import normalise_labels

#            123456789012345678901234567890
SEQUENCE = "GATTACAGCAAAAAAGTCACACACATGGCTTAGCATCGATCGACTAGCATTTACG"


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reference") / "reference.fa"
    path.write_text(f">c1\n{SEQUENCE}\n>c2\n{SEQUENCE[::-1]}\n")
    pysam.faidx(str(path))
    return path


def truth(path: Path, rows: list[str], samples: str = "p1", contigs: str = "") -> Path:
    header = (
        "##fileformat=VCFv4.2\n"
        f"{contigs or f'##contig=<ID=c1,length={len(SEQUENCE)}>' + chr(10)}"
        '##INFO=<ID=AF,Number=1,Type=Float,Description="x">\n##FILTER=<ID=low,Description="x">\n'
        '##ALT=<ID=DEL,Description="x">\n##ALT=<ID=NON_REF,Description="x">\n'
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="x">\n##FORMAT=<ID=DP,Number=1,Type=Integer,Description="x">\n'
    )
    columns = "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *samples.split()])
    path.write_text(header + columns + "\n" + "".join("\t".join(row.split()) + "\n" for row in rows))
    return path


def records(path: Path) -> list[str]:
    with pysam.BGZFile(str(path)) as handle:
        lines = handle.read().decode().splitlines()
    return [" ".join(line.split("\t")[index] for index in (0, 1, 3, 4, 9)) for line in lines if line[0] != "#"]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("c1 4 rs1 T C 50 PASS AF=0.5 GT:DP 0|1:30", ["c1 4 T C 0|1"]),
        # A deletion of one A, written at the end of the run of six, moves to its start.
        ("c1 14 . AA A . . . GT 0/1", ["c1 9 CA C 0/1"]),
        # An insertion of CA into the repeat, written at its end.
        ("c1 25 . A ACA . . . GT 1/1", ["c1 17 T TCA 1/1"]),
        # Two alleles split; each keeps its own share of the genotype.
        ("c1 4 . T C,G . . . GT 1|2", ["c1 4 T C 1|0", "c1 4 T G 0|1"]),
        # Trimmed: one base really changes.
        ("c1 3 . TTA TTG . . . GT 0/1", ["c1 5 A G 0/1"]),
        ("c1 4 . t c . . . GT 0/1", ["c1 4 T C 0/1"]),
        ("c1 4 . T C . . . GT 0/0", []),
        # Where the truth does not say what the patient has, candidates must get no label.
        ("c1 4 . T C . . . GT ./.", ["c1 4 T . ./."]),
        ("c1 4 . T C . low . GT 0/1", ["c1 4 T . ./."]),
        ("c1 4 . T <DEL> . . . GT 0/1", ["c1 4 T . ./."]),
        ("c1 4 . T C,* . . . GT 1/2", ["c1 4 T C 1/0"]),
        ("c1 4 . T C,<NON_REF> . . . GT 0/1", ["c1 4 T C 0/1"]),
        ("c1 4 . T . . . . GT 0/0", []),
        # Bases that change together are taken apart; each keeps the genotype.
        ("c1 3 . TTA CTG . . . GT 0|1", ["c1 3 T C 0|1", "c1 5 A G 0|1"]),
        ("c1 3 . TT CC,CG . . . GT 1|2", ["c1 3 T C 1|1", "c1 4 T C 1|0", "c1 4 T G 0|1"]),
        # One allele named twice in a record: both copies have it.
        ("c1 4 . T C,C . . . GT 1|2", ["c1 4 T C 1|1"]),
        # Haploid, as callers write the X of a man.
        ("c1 4 . T C . . . GT 1", ["c1 4 T C 1"]),
        # The base lies inside a deletion that another record spells out.
        ("c1 4 . T *,C . . . GT 1/2", ["c1 4 T C 0/1"]),
    ],
)
def test_normalise_labels__writes_one_form(reference: Path, tmp_path: Path, row: str, expected: list[str]) -> None:
    normalise_labels(truth(tmp_path / "t.vcf", [row]), reference, tmp_path / "o.vcf.gz")
    assert records(tmp_path / "o.vcf.gz") == expected


def test_normalise_labels__counts_what_it_leaves_out(reference: Path, tmp_path: Path) -> None:
    rows = [
        "c1 4 . T <DEL> . . . GT 0/1",
        "c1 5 . A C . . . GT 0/0",
        "c1 6 . C G . low . GT 0/1",
        "c1 10 . AA A . . . GT 0/1",
        "c1 12 . AA A . . . GT 0/1",
    ]
    summary = normalise_labels(truth(tmp_path / "t.vcf", rows), reference, tmp_path / "o.vcf.gz")
    assert summary.kept == 1
    assert summary.dropped == {"not spelled in bases": 1, "not carried": 1, "filtered": 1, "repeated": 1}
    assert "1 variants of p1; left out: 1 filtered, 1 not carried, 1 not spelled in bases, 1 repeated" in (
        summary.sentence()
    )


@pytest.mark.parametrize(
    ("genotypes", "merged"),
    [(("0|1", "1|0"), "1|1"), (("0/1", "0/1"), "0/1"), (("0/1", "1/1"), "1/1")],
)
def test_normalise_labels__merges_what_stands_twice(
    reference: Path, tmp_path: Path, genotypes: tuple[str, str], merged: str
) -> None:
    # The same deletion of an A, at two places of the run.
    rows = [f"c1 10 . AA A . . . GT {genotypes[0]}", f"c1 13 . AA A . . . GT {genotypes[1]}"]
    summary = normalise_labels(truth(tmp_path / "t.vcf", rows), reference, tmp_path / "o.vcf.gz")
    assert records(tmp_path / "o.vcf.gz") == [f"c1 9 CA C {merged}"]
    assert summary.dropped == {"repeated": 1}


@pytest.mark.parametrize(
    ("genotypes", "expected"),
    [
        (("0|1", "0|1"), ["c1 9 CAA C 0|1"]),
        (("1/1", "1/1"), ["c1 9 CAA C 1/1"]),
        (("1|1", "0|1"), ["c1 9 CA C 1|0", "c1 9 CAA C 0|1"]),
    ],
)
def test_normalise_labels__joins_deletions_of_one_haplotype(
    reference: Path, tmp_path: Path, genotypes: tuple[str, str], expected: list[str]
) -> None:
    # Two bases of the run are gone, one by each record.
    rows = [f"c1 10 . AA A . . . GT {genotypes[0]}", f"c1 13 . AA A . . . GT {genotypes[1]}"]
    normalise_labels(truth(tmp_path / "t.vcf", rows), reference, tmp_path / "o.vcf.gz")
    assert records(tmp_path / "o.vcf.gz") == expected


@pytest.mark.parametrize(
    ("genotypes", "expected"),
    [
        (("0|1", "0|1"), "c1 13 AA A 0|1"),
        (("0/1", "0/1"), "c1 13 AA A 0/1"),
        (("1|1", "0|1"), "c1 13 AA A 0|1"),
        # Known to be on the other haplotype: nothing is in its way.
        (("1|0", "0|1"), "c1 9 CA C 0|1"),
    ],
)
def test_normalise_labels__an_indel_stays_behind_a_change_of_its_haplotype(
    reference: Path, tmp_path: Path, genotypes: tuple[str, str], expected: str
) -> None:
    # In a run of six, the third A is a G and the fifth is gone; to the left of the G it would be another sequence.
    rows = [f"c1 12 . A G . . . GT {genotypes[0]}", f"c1 14 . AA A . . . GT {genotypes[1]}"]
    normalise_labels(truth(tmp_path / "t.vcf", rows), reference, tmp_path / "o.vcf.gz")
    assert sorted(records(tmp_path / "o.vcf.gz")) == sorted([f"c1 12 A G {genotypes[0]}", expected])


def test_normalise_labels__the_same_record_twice_is_one_statement(reference: Path, tmp_path: Path) -> None:
    rows = ["c1 4 . T C . . . GT 0/1"] * 2 + ["c1 10 . AA A . . . GT 0|1"] * 2
    summary = normalise_labels(truth(tmp_path / "t.vcf", rows), reference, tmp_path / "o.vcf.gz")
    assert records(tmp_path / "o.vcf.gz") == ["c1 4 T C 0/1", "c1 9 CA C 0|1"]
    assert summary.dropped == {"repeated": 2}


GATK = [
    "c1 1 . G <NON_REF> . . END=3 GT:DP:GQ 0/0:31:90",
    "c1 4 . T C,<NON_REF> 800 . DP=30 GT:DP:GQ:PGT:PID:PS 0|1:30:99:0|1:4_T_C:4",
    "c1 5 . A G,<NON_REF> 800 . DP=30 GT:DP:GQ:PGT:PID:PS 1|1:30:99:1|1:4_T_C:4",
    "c1 6 . C <NON_REF> . . END=8 GT:DP:GQ 0/0:3:5",
    "c1 9 . CAA C,<NON_REF> 90 . DP=30 GT:DP:GQ 0/1:30:80",
    "c1 11 . A T,*,<NON_REF> 90 . DP=30 GT:DP:GQ 1/2:30:70",
    "c1 12 . A <NON_REF> . . END=30 GT:DP:GQ 0/0:30:60",
]
DEEP_VARIANT = [
    "c1 1 . G <*> 0 . END=3 GT:GQ:MIN_DP 0/0:50:30",
    "c1 4 . T C,<*> 40 PASS . GT:GQ:DP:VAF 0/1:39:30:0.5,0",
    "c1 5 . A G,<*> 1 RefCall . GT:GQ:DP:VAF 0/0:12:30:0.1,0",
    "c1 6 . C G,<*> 1 RefCall . GT:GQ:DP:VAF ./.:3:30:0.1,0",
    "c1 7 . A <*> 0 . END=30 GT:GQ:MIN_DP 0/0:50:30",
]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (GATK, ["c1 4 T C 0|1", "c1 5 A G 1|1", "c1 9 CAA C 0/1", "c1 11 A T 1/0"]),
        (DEEP_VARIANT, ["c1 4 T C 0/1", "c1 6 C . ./."]),
    ],
    ids=["GATK HaplotypeCaller", "DeepVariant"],
)
def test_normalise_labels__reads_the_gvcf_of_callers(
    reference: Path, tmp_path: Path, rows: list[str], expected: list[str]
) -> None:
    path = Path(pysam.tabix_index(str(gvcf(tmp_path / "t.vcf", rows)), preset="vcf"))
    normalise_labels(path, reference, tmp_path / "o.vcf.gz")
    assert records(tmp_path / "o.vcf.gz") == expected


def gvcf(path: Path, rows: list[str]) -> Path:
    """Write records with the headers of HaplotypeCaller and DeepVariant."""
    kinds = {"END": "Integer", "DP": "Integer"}
    formats = {"GT": "String", "DP": "Integer", "GQ": "Integer", "MIN_DP": "Integer", "PS": "Integer"}
    formats |= {"PGT": "String", "PID": "String"}
    lines = ["##fileformat=VCFv4.2", f"##contig=<ID=c1,length={len(SEQUENCE)}>"]
    lines += ['##FILTER=<ID=RefCall,Description="x">', '##ALT=<ID=NON_REF,Description="x">']
    lines += [f'##INFO=<ID={key},Number=1,Type={kind},Description="x">' for key, kind in kinds.items()]
    lines += [f'##FORMAT=<ID={key},Number=1,Type={kind},Description="x">' for key, kind in formats.items()]
    lines += ['##FORMAT=<ID=VAF,Number=A,Type=Float,Description="x">']
    lines += ["\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", "p1"])]
    path.write_text("\n".join([*lines, *("\t".join(row.split()) for row in rows)]) + "\n")
    return path


def test_normalise_labels__one_sample_of_many_without_the_alleles_of_others(reference: Path, tmp_path: Path) -> None:
    rows = ["c1 4 . T C,G . . . GT 0|1 0|2", "c1 6 . C G . . . GT 0/0 1/1"]
    path = truth(tmp_path / "t.vcf", rows, samples="p1 p2")
    normalise_labels(path, reference, tmp_path / "o.vcf.gz", sample="p2")
    assert records(tmp_path / "o.vcf.gz") == ["c1 4 T G 0|1", "c1 6 C G 1/1"]
    with pysam.VariantFile(str(tmp_path / "o.vcf.gz")) as variants:
        assert list(variants.header.samples) == ["p2"]
        assert dict(variants.header.contigs)["c1"].length == len(SEQUENCE)


@pytest.mark.parametrize("indexed", [True, False])
def test_normalise_labels__regions_hold_the_left_aligned_start(reference: Path, tmp_path: Path, indexed: bool) -> None:
    rows = ["c1 4 . T C . . . GT 0/1", "c1 14 . AA A . . . GT 0/1", "c1 17 . T C . . . GT 0/1"]
    path = truth(tmp_path / "t.vcf", rows)
    if indexed:
        path = Path(pysam.tabix_index(str(path), preset="vcf"))
    bed = tmp_path / "r.bed"
    bed.write_text("c1\t8\t10\n")
    normalise_labels(path, reference, tmp_path / "o.vcf.gz", regions=bed)
    assert records(tmp_path / "o.vcf.gz") == ["c1 9 CA C 0/1"]
    with pysam.TabixFile(str(tmp_path / "o.vcf.gz")) as index:
        assert len(list(index.fetch("c1", 8, 9))) == 1


def test_normalise_labels__a_region_cuts_a_change_of_several_bases(reference: Path, tmp_path: Path) -> None:
    bed = tmp_path / "r.bed"
    bed.write_text("c1\t3\t5\n")
    path = truth(tmp_path / "t.vcf", ["c1 3 . TTAC CGGG . . . GT 0/1"])
    normalise_labels(path, reference, tmp_path / "o.vcf.gz", regions=bed)
    assert records(tmp_path / "o.vcf.gz") == ["c1 4 T G 0/1", "c1 5 A G 0/1"]


def test_normalise_labels__contigs_come_in_the_order_of_the_reference(reference: Path, tmp_path: Path) -> None:
    # The header lists no contig at all, as some truth sets do.
    rows = [f"c2 2 . {SEQUENCE[::-1][1]} T . . . GT 0/1", "c1 4 . T C . . . GT 0/1"]
    normalise_labels(truth(tmp_path / "t.vcf", rows, contigs="##x=y\n"), reference, tmp_path / "o.vcf.gz")
    assert [record.split()[0] for record in records(tmp_path / "o.vcf.gz")] == ["c1", "c2"]


def test_normalise_labels__same_input_same_bytes(reference: Path, tmp_path: Path) -> None:
    path = truth(tmp_path / "t.vcf", ["c1 4 . T C . . . GT 0/1"])
    for name in ("a", "b"):
        normalise_labels(path, reference, tmp_path / name / "o.vcf.gz")
    for file in ("o.vcf.gz", "o.vcf.gz.tbi"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["o.vcf.gz", "o.vcf.gz.tbi"]


def test_normalise_labels__no_variants_is_an_empty_file(reference: Path, tmp_path: Path) -> None:
    normalise_labels(truth(tmp_path / "t.vcf", []), reference, tmp_path / "o.vcf.gz")
    assert records(tmp_path / "o.vcf.gz") == []
    with pysam.VariantFile(str(tmp_path / "o.vcf.gz")) as variants:
        assert not list(variants.fetch("c1"))


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        (["c1 4 . G C . . . GT 0/1"], {}, r"t\.vcf: c1:4: REF is G, but .*reference\.fa has T there"),
        (["c1 4 . T C . . . GT 0/1"], {"sample": "p9"}, r"t\.vcf: no sample 'p9' \(found p1\)"),
        (["c1 4 . T C . . . GT 0/1"], {"samples": "p1 p2"}, r"t\.vcf: 2 samples \(p1, p2\); name the patient's"),
        (["c1 4 . T C"], {"samples": "none"}, r"t\.vcf: no sample column"),
        ([], {"contigs": "##contig=<ID=chr1,length=9>\n"}, r"t\.vcf: no contig in common .*found chr1"),
        ([], {"contigs": "##contig=<ID=c1,length=9>\n"}, r"t\.vcf: contig 'c1' has 9 bases, but 55 in"),
    ],
)
def test_normalise_labels__refuses_in_one_line_and_leaves_nothing(
    reference: Path, tmp_path: Path, rows: list[str], options: dict[str, str], said: str
) -> None:
    samples = options.get("samples", "p1")
    path = truth(tmp_path / "t.vcf", rows, samples, options.get("contigs", ""))
    if samples == "none":
        path.write_text(
            f"##fileformat=VCFv4.2\n##contig=<ID=c1,length={len(SEQUENCE)}>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
        )
    (tmp_path / "out").mkdir()
    with pytest.raises(FedcallError, match=said) as caught:
        normalise_labels(path, reference, tmp_path / "out" / "o.vcf.gz", sample=options.get("sample"))
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**31))
def test_normalise_labels__keeps_the_haplotypes(reference: Path, tmp_path: Path, seed: int) -> None:
    """Putting the variants into the reference gives the same sequences before and after."""
    draw = random.Random(seed)
    rows, variants, position = [], [], 1
    while position < len(SEQUENCE) - 8:
        position += draw.randint(1, 9)
        length = draw.randint(1, 4)
        ref = SEQUENCE[position - 1 : position - 1 + length]
        alt = ref[0] + "".join(draw.choice("ACGT") for _ in range(draw.randint(0, 3)))
        if alt != ref:
            rows.append(f"c1 {position} . {ref} {alt} . . . GT 1|1")
            variants.append((position, ref, alt))
        position += length + 6
    normalise_labels(truth(tmp_path / "t.vcf", rows), reference, tmp_path / "o.vcf.gz")
    normalised = [record.split() for record in records(tmp_path / "o.vcf.gz")]
    assert apply(variants) == apply([(int(row[1]), row[2], row[3]) for row in normalised])
    for _, start, ref, alt, _ in normalised:
        assert (ref[-1] != alt[-1] and (ref[0] != alt[0] or min(len(ref), len(alt)) == 1)) or start == "1"
        assert len(ref) != len(alt) or len(ref) == 1


def apply(variants: list[tuple[int, str, str]]) -> str:
    sequence = SEQUENCE
    for position, ref, alt in reversed(variants):
        assert sequence[position - 1 : position - 1 + len(ref)] == ref
        sequence = sequence[: position - 1] + alt + sequence[position - 1 + len(ref) :]
    return sequence


def test_normalise_labels__simulated_truth_is_normalised_already(simulated_cohort: Path, tmp_path: Path) -> None:
    source = simulated_cohort / "south-002.truth.vcf.gz"
    normalise_labels(source, simulated_cohort / "reference.fa", tmp_path / "o.vcf.gz")
    assert records(tmp_path / "o.vcf.gz") == records(source)
    assert len(records(source)) > 5


@pytest.mark.real_data
def test_normalise_labels__remembers_that_the_original_held_snps_only(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "ceu_1000g"
    normalise_labels(
        source / "genotypes.vcf.gz",
        source / "reference.fa.gz",
        tmp_path / "o.vcf.gz",
        regions=source / "regions.bed",
        sample="NA06984",
    )
    assert label_types(tmp_path / "o.vcf.gz") == "snps"
    assert len(records(tmp_path / "o.vcf.gz")) == 216


@pytest.mark.real_data
def test_normalise_labels__reads_the_giab_truth(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "na12878"
    normalise_labels(source / "truth.vcf.gz", source / "reference.fa.gz", tmp_path / "o.vcf.gz")
    assert label_types(tmp_path / "o.vcf.gz") == "all"
    assert len(records(tmp_path / "o.vcf.gz")) == 223
