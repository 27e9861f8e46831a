"""Who has which alleles, and real outputs of GATK and DeepVariant against the truth of the same person."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcall.callers.agreement import Case, add_patterns, agreement_of, count_patterns, read_agreement, sort_alleles
from fedcall.errors import FedcallError
from fedcall.genomics.concordance.comparison import compare_variants
from fedcall.genomics.concordance.records import Variant
from fedcall.genomics.truth.confident_regions import write_confident_regions
from fedcall.genomics.truth.normalise_labels import normalise_labels

DATA = Path(__file__).with_name("data")
SPAN = ("chr20", 9_999_999, 10_002_400)


def fetch(contig: str, start: int, end: int) -> str:
    return ("ACGT" * 300)[start:end]


def variant(start: int, dosage: int = 1, quality: float | None = None) -> Variant:
    ref = fetch("c", start, start + 1)
    return Variant("c", start, ref, "T" if ref != "T" else "A", dosage, genotype_quality=quality)


def test_sort_alleles__says_who_has_what() -> None:
    truth = [variant(100), variant(200, 2), variant(300)]
    calls = {
        "one": [variant(100, quality=40), variant(200, 1, 30), variant(400, quality=20)],
        "two": [variant(100, quality=60), variant(200, 2, 200), variant(400, quality=35), variant(500)],
    }
    found = {one.variant.start: (one.kind, one.callers, one.severity) for one in sort_alleles(truth, calls, fetch)}
    assert found == {
        100: ("true variant", ("one", "two"), 60.0),
        200: ("true variant", ("two",), 99.0),  # the wrong number of copies is not having it
        300: ("true variant", (), 0.0),
        400: ("false call", ("one", "two"), 35.0),
        500: ("false call", ("two",), 0.0),
    }


@given(
    st.lists(st.tuples(st.integers(1, 11), st.integers(1, 2)), max_size=11, unique_by=lambda one: one[0]),
    st.lists(
        st.lists(st.tuples(st.integers(1, 11), st.integers(1, 2)), max_size=11, unique_by=lambda one: one[0]),
        min_size=1,
        max_size=3,
    ),
)
def test_count_patterns__adds_up_to_the_concordance(
    true: list[tuple[int, int]], called: list[list[tuple[int, int]]]
) -> None:
    truth = [variant(100 * place, dosage) for place, dosage in sorted(true)]
    calls = {
        f"caller{number}": [variant(100 * place, dosage) for place, dosage in sorted(own)]
        for number, own in enumerate(called)
    }
    patterns = count_patterns(sort_alleles(truth, calls, fetch), tuple(calls))
    for name, own in calls.items():
        found = compare_variants(truth, own, [("c", 0, 1200)], fetch)
        having = [row for row in patterns if name in row.callers]
        assert sum(row.count for row in having if row.kind == "true variant") == found.all.tp
        assert sum(row.count for row in having if row.kind == "false call") == found.all.allele_fp
    assert sum(row.count for row in patterns if row.kind == "true variant") == len(truth)


def test_read_agreement__another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"schema_version": "fedcall.errors/1"}')
    with pytest.raises(FedcallError, match="not an agreement of callers"):
        read_agreement(tmp_path / "other.json")
    with pytest.raises(FedcallError, match="no such file"):
        read_agreement(tmp_path / "none.json")


def test_agreement_of__real_gatk_and_deepvariant(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "na12878"
    calls = {"gatk": renamed(DATA / "gatk.vcf", tmp_path), "deepvariant": DATA / "deepvariant.vcf"}
    case = Case(folder / "truth.vcf.gz", folder / "reference.fa.gz", [SPAN])
    found = agreement_of(case, calls, folder / "NA12878.bam")
    assert [(one.caller, one.software) for one in found.callers] == [
        ("gatk", None),
        ("deepvariant", "deepvariant 1.1.0"),
    ]
    assert {(row.type, row.kind, row.callers): row.count for row in found.patterns} == {
        ("snps", "true variant", ("gatk", "deepvariant")): 16,
        ("snps", "true variant", ("gatk",)): 1,
        ("indels", "true variant", ("gatk", "deepvariant")): 1,
    }
    # DeepVariant 1.1 took it for no variant (RefCall); the truth has it.
    (only,) = found.disagreements
    assert (only.position, only.ref, only.alt, only.callers, only.severity) == (10001019, "T", "G", ("gatk",), 99.0)
    assert only.drawn is not None
    assert only.drawn.supporting == 13
    assert only.drawn.depth == 44  # AD and DP of both callers' kind: 31,13 of 44
    assert add_patterns([found, found])[0].count == 2 * found.patterns[0].count


def test_gvcfs__real_ones_are_truth_and_regions(shared_data: Path, tmp_path: Path) -> None:
    reference = shared_data / "na12878" / "reference.fa.gz"
    for caller, unsure in (("deepvariant", 10001019), ("gatk", 10001427)):
        source = DATA / f"{caller}.g.vcf"
        gvcf = renamed(source, tmp_path) if caller == "gatk" else source
        labels = normalise_labels(gvcf, reference, tmp_path / f"{caller}.labels.vcf.gz")
        assert labels.kept == {"deepvariant": 9, "gatk": 10}[caller]
        bases = write_confident_regions(gvcf, reference, tmp_path / "regions.bed")
        spans = [line.split("\t") for line in (tmp_path / "regions.bed").read_text().splitlines()]
        covered = [(int(start), int(end)) for _, start, end in spans]
        assert sum(end - start for start, end in covered) == bases
        assert 1400 < bases < 1475
        assert not any(start < unsure <= end for start, end in covered)
        assert any(start < 10000500 <= end for start, end in covered)


def renamed(path: Path, folder: Path) -> Path:
    """Return a copy on contig chr20: GATK's data is on the reference that calls it 20."""
    text = path.read_text().replace("##contig=<ID=20,", "##contig=<ID=chr20,").replace("\n20\t", "\nchr20\t")
    kept = "\n".join(line for line in text.split("\n") if not line.startswith("##contig=<ID=21,"))
    copy = folder / path.name
    copy.write_text(kept)
    return copy
