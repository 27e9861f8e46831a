"""Allele frequencies of a public panel: read in three forms, in the candidates' spelling, and put in the prior."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pysam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcall.errors import FedcallError
from fedcall.genomics.calling.panel import ASSUMED_CHROMOSOMES, GAP, PanelCounts, look_up, open_panel, with_panel
from fedcall.genomics.examples import COUNT_CHANNELS, FEATURES, WINDOW, Examples, make_examples
from fedcall.genomics.priors import log_priors, panel_log_priors
from tiny_alignments import write_reference

REPEAT = "ACGTTGCAACCTGAGT" * 25
SEQUENCE = REPEAT + "CAAAAAAGT" + "GGATCCTTAACGTACG" * 300  # contig `c`; six times A from position 401 on
COUNTS = {"AC": "A", "AN": "1"}
FREQUENCIES = {"AF": "A"}
Triple = tuple[int, str, str]


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return write_reference(tmp_path, {"c": SEQUENCE})


def write_panel(
    folder: Path, records: Sequence[str], info: dict[str, str] = COUNTS, people: int = 0, contig: str = "c"
) -> Path:
    """Write records, `POS REF ALT FILTER INFO [GT...]`, of contig `c`; bgzipped and indexed."""
    columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"]
    columns += ["FORMAT", *(f"p{k}" for k in range(people))] if people else []
    lines = ["##fileformat=VCFv4.2", f"##contig=<ID={contig}>", '##FILTER=<ID=bad,Description="x">']
    lines += [
        f'##INFO=<ID={name},Number={number},Type={"Float" if name == "AF" else "Integer"},Description="x">'
        for name, number in info.items()
    ]
    lines += ['##FORMAT=<ID=GT,Number=1,Type=String,Description="x">', "\t".join(columns)]
    for record in records:
        position, ref, alt, filters, said, *genotypes = record.split()
        fields = [contig, position, ".", ref, alt, ".", filters, said, *(["GT", *genotypes] if people else [])]
        lines.append("\t".join(fields))
    path = folder / "panel.vcf"
    path.write_text("\n".join(lines) + "\n")
    pysam.tabix_index(str(path), preset="vcf", force=True)
    return Path(f"{path}.gz")


def candidates(*alleles: Triple, contig: str = "c") -> Examples:
    """Return examples of (0-based position, REF, ALT); a panel looks at nothing else of them."""
    rows = len(alleles)
    return make_examples(
        [(ref, alt) for _, ref, alt in alleles],
        {"contigs": f'["{contig}"]'},
        counts=np.zeros((rows, len(COUNT_CHANNELS), WINDOW)),
        reference=np.full((rows, WINDOW), 4),
        features=np.zeros((rows, len(FEATURES))),
        log_likelihoods=np.zeros((rows, 3)),
        labels=np.zeros(rows),
        contig=np.zeros(rows),
        position=np.array([position for position, _, _ in alleles], np.int64),
        allele_depths=np.zeros((rows, 2)),
        depth=np.zeros(rows),
    )


def found(panel: Path, reference: Path, *alleles: Triple) -> list[tuple[float, float]]:
    counts = look_up(open_panel(panel, reference), candidates(*alleles))
    return list(zip(counts.copies.tolist(), counts.chromosomes.tolist(), strict=True))


@pytest.mark.parametrize(
    ("info", "people", "record", "expected"),
    [
        (COUNTS, 0, "2 C T PASS AC=3;AN=20", (3, 20)),
        ({"AC": "1", "AN": "1"}, 0, "2 C T . AC=3;AN=20", (3, 20)),
        (COUNTS | FREQUENCIES, 0, "2 C T . AC=3;AN=20;AF=0.5", (3, 20)),
        (COUNTS, 3, "2 C T . AC=3;AN=20 0/0 0/0 0/0", (3, 20)),
        ({}, 4, "2 C T . . 0|1 1/1 ./. 1", (4, 5)),
        (FREQUENCIES, 3, "2 C T . AF=0.9 0/1 0/0 0/0", (1, 6)),
        (FREQUENCIES | {"AN": "1"}, 0, "2 C T . AN=200;AF=0.25", (50, 200)),
        (FREQUENCIES, 0, "2 C T . AF=0.25", (ASSUMED_CHROMOSOMES / 4, ASSUMED_CHROMOSOMES)),
    ],
    ids=["counts", "one for all", "before AF", "before genotypes", "genotypes", "before stale AF", "AF, AN", "AF"],
)
def test_look_up__forms_of_frequencies(
    tmp_path: Path, reference: Path, info: dict[str, str], people: int, record: str, expected: tuple[float, float]
) -> None:
    assert found(write_panel(tmp_path, [record], info, people), reference, (1, "C", "T")) == [expected]


def test_look_up__alleles_in_the_candidates_form(tmp_path: Path, reference: Path) -> None:
    records = [
        "401 CA C . AC=2;AN=100",
        "405 AA A . AC=3;AN=90",  # the same deletion, not shifted to the left: other people
        "410 GGATC GGATT,G . AC=5,7;AN=100",  # a substitution and a deletion
        "420 CG TA . AC=4;AN=100",  # two bases at once
        "420 C T . AC=6;AN=100",
        "420 C T . AC=6;AN=100",  # said twice
        "432 T G,*,<NON_REF> . AC=1,2,3;AN=80",
        "440 C A bad AC=50;AN=100",
    ]
    alleles = {
        (400, "CA", "C"): (5, 100),
        (409, "GGATC", "G"): (7, 100),
        (413, "C", "T"): (5, 100),
        (419, "C", "T"): (10, 100),
        (420, "G", "A"): (4, 100),
        (420, "G", "C"): (0, 80),  # fewer people on one side
        (431, "T", "G"): (1, 80),
        (439, "C", "A"): (0, 100),
    }
    assert found(write_panel(tmp_path, records), reference, *alleles) == list(alleles.values())


def test_look_up__covers_what_lies_between_near_records(tmp_path: Path, reference: Path) -> None:
    places = [500, 500 + GAP, 501 + 2 * GAP, 3 * GAP]
    records = [f"{place} {SEQUENCE[place - 1]} N . AC=1;AN={10 * k}" for k, place in enumerate(places, start=1)]
    panel = write_panel(tmp_path, records)
    asked = {498: 0, 499: 10, 500: 10, 498 + GAP: 10, 499 + GAP: 20, 500 + GAP: 0, 500 + 2 * GAP: 30, 3 * GAP: 0}
    alleles = [(place, SEQUENCE[place], "ACGT"[(("ACGT".index(SEQUENCE[place])) + 1) % 4]) for place in asked]
    assert found(panel, reference, *alleles) == [(0, chromosomes) for chromosomes in asked.values()]
    # Neither order nor company matters.
    for index in range(len(alleles)):
        assert found(panel, reference, alleles[index]) == found(panel, reference, *alleles)[index : index + 1]
    assert found(panel, reference, *alleles[::-1]) == found(panel, reference, *alleles)[::-1]


def test_look_up__a_panel_of_snps_says_nothing_about_indels(tmp_path: Path, reference: Path) -> None:
    records = [f"{410 + k} {SEQUENCE[409 + k]} N . AC=1;AN=20" for k in range(100)]
    asked = ((419, "C", "T"), (420, "G", "GA"))
    assert found(write_panel(tmp_path, records), reference, *asked) == [(0, 20), (0, 0)]
    assert found(write_panel(tmp_path, [*records, "560 TTA T . AC=1;AN=20"]), reference, *asked) == [(0, 20), (0, 20)]
    # Too few to tell.
    assert found(write_panel(tmp_path, records[:50]), reference, *asked) == [(0, 20), (0, 20)]


def test_look_up__contig_that_the_panel_lacks(tmp_path: Path) -> None:
    reference = write_reference(tmp_path, {"c": SEQUENCE, "d": SEQUENCE})
    panel = open_panel(write_panel(tmp_path, ["420 C T . AC=6;AN=100"]), reference)
    assert look_up(panel, candidates((419, "C", "T"))).chromosomes.tolist() == [100]
    assert look_up(panel, candidates((419, "C", "T"), contig="d")).chromosomes.tolist() == [0]
    assert len(look_up(panel, candidates()).copies) == 0


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("420 A T . AC=1;AN=10", "c:420: REF is A, but the reference has C; use the reference the panel was made with"),
        ("420 C T . AC=11;AN=10", "c:420: 11 is no count or frequency of 1 alternative alleles on 10 chromosomes"),
        ("420 C T . AC=-1;AN=10", "c:420: -1 is no count"),
        ("420 C T,G . AC=1;AN=10", "c:420: 1 is no count or frequency of 2"),
    ],
)
def test_look_up__refuses(tmp_path: Path, reference: Path, record: str, message: str) -> None:
    panel = open_panel(write_panel(tmp_path, [record], {"AC": ".", "AN": "1"}), reference)
    with pytest.raises(FedcallError, match=message):
        look_up(panel, candidates((419, "C", "T")))


@pytest.mark.parametrize("record", ["420 C T . AN=10", "420 C T . AC=.;AN=10", "420 C T . AC=0;AN=0", "420 C T . ."])
def test_look_up__records_that_say_nothing(tmp_path: Path, reference: Path, record: str) -> None:
    assert found(write_panel(tmp_path, [record]), reference, (419, "C", "T")) == [(0, 0)]


def test_look_up__records_without_alternative_allele_cover_their_place(tmp_path: Path, reference: Path) -> None:
    assert found(write_panel(tmp_path, ["420 C . . AN=10"]), reference, (419, "C", "T")) == [(0, 10)]


def test_open_panel__refuses(tmp_path: Path, reference: Path) -> None:
    with pytest.raises(FedcallError, match="no such panel VCF"):
        open_panel(tmp_path / "none.vcf.gz", reference)
    with pytest.raises(FedcallError, match="no contig in common"):
        open_panel(write_panel(tmp_path, ["420 C T . AC=1;AN=10"], contig="chrC"), reference)
    with pytest.raises(FedcallError, match=r"neither INFO/AC with INFO/AN, nor INFO/AF, nor genotypes"):
        open_panel(write_panel(tmp_path, ["420 C T . AC=1"], {"AC": "A"}), reference)
    panel = write_panel(tmp_path, ["420 C T . AC=1;AN=10"])
    Path(f"{panel}.tbi").unlink()
    with pytest.raises(FedcallError, match="index is missing; make it with: tabix -p vcf"):
        open_panel(panel, reference)


def priors(copies: Sequence[float], chromosomes: Sequence[float], haploid: bool = False) -> np.ndarray:
    n = len(copies)
    examples = candidates(*[(5, "A", "C")] * n)
    many = np.array(copies, float), np.array(chromosomes, float), np.full(n, haploid)
    return np.exp(panel_log_priors(examples.features, examples.reference, *many))


@given(copies=st.lists(st.integers(0, 1000), min_size=1, max_size=5), more=st.integers(0, 10_000))
def test_panel_log_priors__are_probabilities(copies: list[int], more: int) -> None:
    for haploid in (False, True):
        found = priors(copies, [count + more for count in copies], haploid)
        np.testing.assert_allclose(found.sum(1), 1)
        assert (found > 0).all()


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_panel_log_priors__hardy_weinberg_for_large_panels(share: float) -> None:
    odds = share / (1 - share)
    zero, one, two = priors([share * 1e6], [1e6])[0]
    # All shifted by the lenience, which does not depend on the frequency.
    np.testing.assert_allclose([one / zero, two / zero], [2.5 * 2 * odds, 2.5 * 1.3 * odds**2], rtol=1e-4)
    zero, _, two = priors([share * 1e6], [1e6], haploid=True)[0]
    np.testing.assert_allclose(two / zero, 2.5 * 1.3 * odds, rtol=1e-4)


def test_panel_log_priors__without_a_panel_the_prior_by_kind() -> None:
    plain = candidates((5, "A", "C"))
    np.testing.assert_allclose(priors([0], [0]), np.exp(log_priors(plain.features, plain.reference)))


def test_panel_log_priors__more_copies_more_probable_and_a_larger_panel_doubts_more() -> None:
    carried = 1 - priors([0, 1, 2, 5, 20], [100] * 5)[:, 0]
    assert (np.diff(carried) > 0).all()
    absent = 1 - priors([0] * 5, [0, 2, 10, 100, 1e6])[:, 0]
    assert (np.diff(absent) < 0).all()
    assert absent[-1] > 0.005 * absent[0]
    # Frequencies below one copy: never less than an allele the panel lacks.
    assert (priors([1e-9], [100])[0, 1:] >= priors([0], [100])[0, 1:]).all()


def test_with_panel__is_bayes_rule() -> None:
    examples = candidates((5, "A", "C"), (6, "C", "T"), (7, "G", "A"))
    rng = np.random.default_rng(1)
    likelihoods = rng.uniform(0.1, 1, (3, 3))
    counts = PanelCounts(np.array([40.0, 0.0, 0.0]), np.array([100.0, 100.0, 0.0]))
    nowhere = np.zeros(3, bool)
    before = likelihoods * np.exp(log_priors(examples.features, examples.reference))
    after = likelihoods * priors([40, 0, 0], [100, 100, 0])
    found = with_panel((before / before.sum(1, keepdims=True)).astype(np.float32), examples, counts, nowhere)
    np.testing.assert_allclose(found, after / after.sum(1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(found[2], (before / before.sum(1, keepdims=True))[2], rtol=1e-6)
