"""Calls: what is written is what the posteriors say, and nothing a person cannot have."""

import gzip
import json
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pysam
import pysam.bcftools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcall.errors import FedcallError
from fedcall.genomics.calling.calls import Provenance, write_calls
from fedcall.genomics.calling.diplotypes import Candidate, call_records
from fedcall.genomics.examples import FEATURES, Examples, make_examples

SEQUENCE = "ACGTTAGCCATAAAAAACGTGCATTGACCAGTACCATGGATCCGTACGATCAGT"
PROVENANCE = Provenance("ab" * 32, "cd" * 32)

Row = tuple[int, str, str, tuple[float, float, float]]


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "reference.fa"
    path.write_text(f">c1\n{SEQUENCE}\n>c2\n{SEQUENCE[::-1]}\n")
    pysam.faidx(str(path))
    return path


def surely(dosage: int, probability: float = 0.98) -> tuple[float, float, float]:
    values = [(1 - probability) / 2] * 3
    values[dosage] = probability
    return values[0], values[1], values[2]


def examples_of(rows: list[Row], contigs: list[int] | None = None) -> tuple[Examples, np.ndarray]:
    n = len(rows)
    examples = make_examples(
        [(ref, alt) for _, ref, alt, _ in rows],
        {"contigs": json.dumps(["c1", "c2"])},
        counts=np.zeros((n, 18, 33)),
        reference=np.zeros((n, 33)),
        features=np.zeros((n, len(FEATURES))),
        log_likelihoods=np.zeros((n, 3)),
        labels=-np.ones(n),
        contig=np.array(contigs or [0] * n),
        position=np.array([row[0] for row in rows]),
        allele_depths=np.array([[7, 5]] * n).reshape(n, 2),
        depth=np.full(n, 13),
    )
    return examples, np.array([row[3] for row in rows], np.float32).reshape(n, 3)


def write(tmp_path: Path, reference: Path, rows: list[Row], contigs: list[int] | None = None) -> Path:
    output = tmp_path / "calls.vcf.gz"
    write_calls(output, *examples_of(rows, contigs), reference, "me", PROVENANCE)
    return output


def records(path: Path) -> list[pysam.VariantRecord]:
    with pysam.VariantFile(str(path)) as file:
        return list(file)


def test_write_calls__one_heterozygous_base(tmp_path, reference):
    posterior = (1e-4, 0.9 - 1e-4, 0.1)
    (record,) = records(write(tmp_path, reference, [(1, "C", "G", posterior)]))
    call = record.samples["me"]
    assert (record.contig, record.pos, record.ref, record.alts) == ("c1", 2, "C", ("G",))
    assert call["GT"] == (0, 1)
    assert record.qual == pytest.approx(40.0, abs=0.01)  # phred of P(0/0) = 1e-4
    assert call["GQ"] == 10  # phred of 1 - 0.8999
    assert call["PL"] == (40, 0, 10)  # 39.5 and 9.54
    assert (call["DP"], call["AD"]) == (13, (7, 5))
    assert list(record.filter) == ["PASS"]


def test_write_calls__header_names_digests_and_no_path(tmp_path, reference):
    text = gzip.decompress(write(tmp_path, reference, [(1, "C", "G", surely(1))]).read_bytes()).decode()
    assert text.startswith("##fileformat=VCFv4.3\n##source=fedcall ")
    assert f"##fedcall_model={'ab' * 32}\n##fedcall_study={'cd' * 32}\n##reference=reference.fa\n" in text
    assert "##contig=<ID=c2,length=54>" in text
    assert str(tmp_path) not in text


def test_write_calls__equal_inputs_equal_bytes_whatever_the_order_of_rows(tmp_path, reference):
    other = SEQUENCE[::-1][1]
    rows = [(1, other, "A", surely(1)), (9, "A", "C", surely(2)), (1, other, "C", surely(1)), (30, "G", "A", surely(2))]
    contigs = [1, 0, 1, 0]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = write(tmp_path / "a", reference, rows, contigs)
    second = write(tmp_path / "b", reference, rows[::-1], contigs[::-1])
    assert first.read_bytes() == second.read_bytes()
    assert Path(f"{first}.tbi").read_bytes() == Path(f"{second}.tbi").read_bytes()
    assert [(record.contig, record.pos) for record in records(first)] == [("c1", 10), ("c1", 31), ("c2", 2)]
    with pysam.VariantFile(str(first)) as file:
        assert [record.pos for record in file.fetch("c2")] == [2]


@pytest.mark.parametrize("haploid", [False, True])
def test_write_calls__a_record_is_the_same_with_and_without_others_beside_it(tmp_path, reference, haploid):
    generator = np.random.default_rng(3)
    odds = np.exp(generator.uniform(-40, 0, (40, 3)))
    odds[::7, 1:] = odds[::7, 1:2]
    odds[::5, 0] = 0.0
    odds[:, 0] *= 1e-3
    spans = [("c1", 0, 40)] if haploid else []
    rows: list[Row] = [
        (at, SEQUENCE[at], "A" if SEQUENCE[at] != "A" else "C", tuple(odd / odd.sum())) for at, odd in enumerate(odds)
    ]

    def lines(chosen: list[Row]) -> list[str]:
        write_calls(tmp_path / "calls.vcf.gz", *examples_of(chosen), reference, "me", PROVENANCE, spans)
        text = gzip.decompress((tmp_path / "calls.vcf.gz").read_bytes()).decode()
        return [line for line in text.splitlines() if not line.startswith("#")]

    together = lines(rows)  # one next to the other: put together by `diplotypes.call_records`
    assert len(together) > 25
    assert sorted(lines(rows[::2]) + lines(rows[1::2])) == sorted(together)


def test_write_calls__nothing_called(tmp_path, reference):
    path = write(tmp_path, reference, [(1, "C", "G", surely(0))])
    assert records(path) == []
    assert Path(f"{path}.tbi").is_file()
    assert records(write(tmp_path, reference, [])) == []


def test_write_calls__two_bases_at_one_position_share_a_record(tmp_path, reference):
    rows = [(1, "C", "G", surely(1)), (1, "C", "T", surely(1, 0.9)), (1, "C", "A", surely(0))]
    (record,) = records(write(tmp_path, reference, rows))
    call = record.samples["me"]
    assert record.alts == ("G", "T")
    assert call["GT"] == (1, 2)
    assert len(call["PL"]) == 6
    # 0/0, 0/1, 1/1, 0/2, 1/2, 2/2: products of single posteriors.
    products = [0.01 * 0.05, 0.98 * 0.05, 0.01 * 0.05, 0.01 * 0.9, 0.98 * 0.9, 0.01 * 0.05]
    assert call["PL"] == tuple(round(-10 * np.log10(value / max(products))) for value in products)
    assert call["AD"] == (7, 5, 5)


def test_write_calls__two_homozygous_bases_cannot_both_be(tmp_path, reference):
    rows = [(1, "C", "G", surely(2, 0.9)), (1, "C", "T", surely(2, 0.99))]
    (record,) = records(write(tmp_path, reference, rows))
    assert (record.alts, record.samples["me"]["GT"]) == (("T",), (1, 1))


def test_write_calls__base_inside_a_homozygous_deletion_is_left_out(tmp_path, reference):
    rows = [(2, "GTTA", "G", surely(2, 0.999)), (3, "T", "C", surely(1, 0.6))]
    (record,) = records(write(tmp_path, reference, rows))
    assert (record.pos, record.ref, record.samples["me"]["GT"]) == (3, "GTTA", (1, 1))


def test_write_calls__homozygous_base_inside_a_heterozygous_deletion_has_one_copy(tmp_path, reference):
    rows = [(2, "GTTA", "G", surely(1, 0.999)), (3, "T", "C", (1e-6, 0.3, 0.7))]
    deletion, base = records(write(tmp_path, reference, rows))
    assert deletion.samples["me"]["GT"] == base.samples["me"]["GT"] == (0, 1)
    assert base.samples["me"]["PL"][1] == 0
    assert base.samples["me"]["PL"][2] > 200  # there is no room for a second copy


def test_write_calls__base_before_an_indel_is_free(tmp_path, reference):
    rows = [(11, "A", "C", surely(1)), (11, "A", "AC", surely(1))]
    written = records(write(tmp_path, reference, rows))
    assert [(record.alts, record.samples["me"]["GT"]) for record in written] == [(("C",), (0, 1)), (("AC",), (0, 1))]


def test_write_calls__homozygous_base_and_heterozygous_indel_are_spelled_out(tmp_path, reference):
    rows = [(11, "A", "C", surely(2)), (11, "A", "AC", surely(1))]
    (record,) = records(write(tmp_path, reference, rows))
    assert (record.ref, record.alts, record.samples["me"]["GT"]) == ("A", ("CC", "C"), (1, 2))


def test_write_calls__not_a_probability(tmp_path, reference):
    with pytest.raises(FedcallError, match="no probabilities"):
        write(tmp_path, reference, [(1, "C", "G", (float("nan"), 0.5, 0.5))])


def test_write_calls__contig_not_in_the_reference(tmp_path, reference):
    other = tmp_path / "other.fa"
    other.write_text(f">c1\n{SEQUENCE}\n")
    pysam.faidx(str(other))
    with pytest.raises(FedcallError, match=r"other\.fa: no contig 'c2'"):
        write(tmp_path, other, [(1, "C", "G", surely(1))])


@st.composite
def crowds(draw: st.DrawFn) -> list[Candidate]:
    found: dict[tuple[int, str, str], Candidate] = {}
    for _ in range(draw(st.integers(1, 12))):
        start = draw(st.integers(0, 8))
        shape = draw(st.sampled_from(["base", "insertion", "deletion"]))
        ref = SEQUENCE[start : start + (draw(st.integers(2, 4)) if shape == "deletion" else 1)]
        alt = draw(st.sampled_from([base for base in "ACGT" if base != ref[0]])) if shape == "base" else ref[0]
        if shape == "insertion":
            alt += draw(st.sampled_from(["A", "C", "GT"]))
        weights = np.array([draw(st.floats(0.001, 1)) for _ in range(3)])
        zero, one, two = (float(value) for value in weights / weights.sum())
        found[start, ref, alt] = Candidate(start, ref, alt, (zero, one, two), 10, 5, 5)
    return list(found.values())


def edits(start: int, ref: str, alt: str) -> tuple[int, int]:
    """Return the stretch of the reference that an allele changes, its anchor base and what follows the change apart."""
    while len(ref) > 1 and len(alt) > 1 and ref[-1] == alt[-1]:
        ref, alt = ref[:-1], alt[:-1]
    shared = 0
    while shared < min(len(ref), len(alt)) and ref[shared] == alt[shared]:
        shared += 1
    return start + shared, start + len(ref)


def haplotypes_exist(written: list[tuple[int, str, str, int]]) -> bool:
    """Say whether some phasing puts every copy on one of two haplotypes without changing a base twice."""

    def fits(haplotype: list[tuple[int, int]]) -> bool:
        ordered = sorted(haplotype)
        return all(left[1] <= right[0] and left != right for left, right in pairwise(ordered))

    heterozygous = [edits(*entry[:3]) for entry in written if entry[3] == 1]
    both = [edits(*entry[:3]) for entry in written if entry[3] == 2]
    return any(
        all(
            fits([*both, *(edit for edit, phase in zip(heterozygous, phases, strict=True) if phase == side)])
            for side in (0, 1)
        )
        for phases in product((0, 1), repeat=len(heterozygous))
    )


@settings(max_examples=150, deadline=None)
@given(crowds())
def test_sites__never_more_than_two_copies(candidates):
    written = []
    for site in call_records(candidates):
        assert site.probabilities.sum() == pytest.approx(1)
        best = site.genotype[1] * (site.genotype[1] + 1) // 2 + site.genotype[0]
        assert site.probabilities[best] == pytest.approx(site.probabilities.max())
        for index, alt in enumerate(site.alleles[1:], start=1):
            assert index in site.genotype
            written.append((site.start, site.alleles[0], alt, site.genotype.count(index)))
    for start in {entry[0] for entry in written}:
        assert sum(entry[3] for entry in written if entry[0] == start) <= 2
    changed = [(edits(start, ref, alt), copies) for start, ref, alt, copies in written]
    assert all(sum(copies for (low, high), copies in changed if low <= base < high) <= 2 for base in range(14))
    assert haplotypes_exist(written)


def test_write_calls__bcftools_norm_accepts_everything(tmp_path, reference, capfd):
    rows = [
        (1, "C", "G", surely(1)),
        (1, "C", "T", surely(1)),
        (2, "GTTA", "G", surely(1)),
        (4, "T", "C", surely(1)),
        (11, "A", "C", surely(2)),
        (11, "A", "AC", surely(1)),
        (26, "A", "AT", surely(2)),
    ]
    path = write(tmp_path, reference, rows)
    split = tmp_path / "split.vcf"
    arguments = ["-c", "e", "-m", "-any", "-f", str(reference), "-o", str(split), str(path)]
    pysam.bcftools.norm(*arguments, catch_stdout=False)
    assert "[W::" not in pysam.bcftools.norm.get_messages() + capfd.readouterr().err
    dosages = [record.samples[0]["GT"].count(1) for record in records(split)]
    assert dosages == [1, 1, 1, 1, 1, 1, 2]


def haploid_record(tmp_path: Path, reference: Path, rows: list[Row]) -> list[pysam.VariantRecord]:
    output = tmp_path / "calls.vcf.gz"
    write_calls(output, *examples_of(rows), reference, "me", PROVENANCE, haploid=[("c1", 0, 20)])
    with pysam.VariantFile(str(output)) as variants:
        return list(variants)


def test_write_calls__one_copy_of_the_genome(tmp_path: Path, reference: Path) -> None:
    rows: list[Row] = [(3, "T", "A", (0.1, 0.6, 0.3)), (5, "A", "C", (0.3, 0.6, 0.1)), (22, "T", "A", (0.1, 0.6, 0.3))]
    inside, outside = haploid_record(tmp_path, reference, rows)
    assert (inside.start, inside.samples[0]["GT"]) == (3, (1,))
    assert inside.samples[0]["PL"] == (5, 0)  # 0.1 against 0.3: the odds that remain without heterozygotes
    assert inside.samples[0]["GQ"] == 6
    assert (outside.start, outside.samples[0]["GT"]) == (22, (0, 1))


def test_write_calls__one_copy_holds_one_of_two_alleles(tmp_path: Path, reference: Path) -> None:
    rows: list[Row] = [(3, "T", "A", (0.01, 0.6, 0.39)), (3, "T", "C", (0.04, 0.6, 0.36))]
    (record,) = haploid_record(tmp_path, reference, rows)
    assert (record.alts, record.samples[0]["GT"]) == (("A",), (1,))
