"""The experiment that tells what wins back wrong chemistry: joint training, own tables, or both."""

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pysam
import pytest

from fedcall.experiments.changed_reads import SCENARIOS, write_changed
from fedcall.experiments.chemistry import (
    MEANS,
    ChemistryCohort,
    ChemistryRow,
    PairedDifference,
    as_text,
    chemistry_rows,
)
from fedcall.experiments.wrong_runs import wrong_runs
from fedcall.model.caller import build_model, weights_of
from fedcall.study.terms import Study
from fedcall.workflow.configuration import Patient
from tiny_alignments import Read, write_alignments, write_reference, write_truth

BASES = 2_000
SEQUENCE = "".join(random.Random(5).choices("ACGT", k=BASES))
TERMS = Study.model_validate(
    {
        "name": "chemistry",
        "rounds": 1,
        "model": {"trainable": "chemistry"},
        "privacy": {"steps_per_round": 2, "rows_per_unit": 16, "sampling_rate": 1.0, "clip_norm": 0.5, "delta": 1e-2},
    }
)


def person(folder: Path, name: str) -> Patient:
    """Somebody with a heterozygous SNP every 200 bases, seen by 12 reads."""
    own = folder / name
    own.mkdir()
    reference = write_reference(own, {"1": SEQUENCE})
    snps = [(at, SEQUENCE[at], "A" if SEQUENCE[at] != "A" else "C") for at in range(100, BASES, 200)]
    reads = []
    for copy in range(2):
        bases = list(SEQUENCE)
        for at, _, alt in snps if copy else []:
            bases[at] = alt
        for start in range(0, BASES - 100, 16):
            reads.append(Read(start, "100M", "".join(bases[start : start + 100]), 30))
    alignments = write_alignments(own, {"1": BASES}, reads)
    truth = write_truth(own, {"1": BASES}, [(at, ref, alt, (0, 1)) for at, ref, alt in snps])
    regions = own / "regions.bed"
    regions.write_text(f"1\t0\t{BASES}\n")
    return Patient(
        patient=name,
        site="east",
        alignments=alignments,
        truth=truth,
        regions=regions,
        reference=reference,
        split="train",
        sample="p",
        private="no",
    )


def test_chemistry_rows__all_means_on_people_and_a_region_that_nobody_trained_on(tmp_path):
    people = [person(tmp_path, name) for name in ("a", "b", "c")]
    assert people[0].reference is not None
    cohort = ChemistryCohort(
        {"east": people[:1], "west": people[1:2]}, people[2:], people[0].reference, ["1:1001-2000"]
    )
    seen: list[ChemistryRow] = []
    rows = chemistry_rows(TERMS, weights_of(build_model()), cohort, ["as they are", "formalin"], [1], seen.append)
    assert seen == rows
    plain, damaged = rows
    assert plain.f1["neither"] == plain.clean == plain.f1["local"] > 0.9  # nothing is changed, and no table is in use
    assert plain.f1["fitted"] == plain.clean  # nobody fits anything to one patient
    assert plain.f1["both"] == plain.f1["joint"]
    assert plain.elsewhere.value == plain.gained["joint"].value  # the same reads on both sides
    assert plain.epsilon is not None
    assert damaged.f1["neither"] <= plain.clean
    assert {row.people for row in rows} == {1}
    lines = as_text(rows).splitlines()
    assert [line.split()[0] for line in lines] == ["reads", "as", "formalin"]


def test_as_text__shares_are_of_what_was_lost():
    nothing = PairedDifference(value=0.0, interval=None, worse=0)
    row = ChemistryRow(
        scenario="oxidation",
        seed=1,
        trainable="chemistry",
        epsilon=3.0,
        people=18,
        tables_in_use=18,
        clean=0.82,
        f1=dict(zip(MEANS, (0.72, 0.80, 0.77, 0.76, 0.82), strict=True)),
        gained={
            means: PairedDifference(value=gain, interval=(gain - 0.01, gain + 0.01), worse=0)
            for means, gain in zip(MEANS, (0.0, 0.08, 0.05, 0.04, 0.10), strict=True)
        },
        indel_f1=None,
        elsewhere=nothing,
    )
    assert [row.won_back(means) for means in MEANS] == pytest.approx([0, 0.8, 0.5, 0.4, 1])
    line = as_text([row]).splitlines()[1]
    assert "-0.1000" in line
    assert "0.8000 +0.0800 (+0.070 +0.090) 80 %" in line
    assert row.model_copy(update={"clean": 0.7202}).won_back("joint") is None


def test_write_changed__runs_are_one_base_too_short_or_too_long_and_still_lie_where_they_were(tmp_path):
    sequence = "".join("ACGT"[number % 4] * length for number, length in enumerate((1, 2, 5, 9, 1, 7) * 21))
    reads = [Read(start, "60M", sequence[start : start + 60], 30) for start in range(0, len(sequence) - 60, 1)] * 4
    reference = write_reference(tmp_path, {"1": sequence})
    alignments = write_alignments(tmp_path, {"1": len(sequence)}, reads)
    output = tmp_path / "changed.bam"
    change = SCENARIOS["homopolymer errors"]
    assert change is wrong_runs
    write_changed(alignments, reference, output, change, 1)
    shorter = longer = 0
    with pysam.AlignmentFile(str(output)) as handle:
        for read in handle:
            assert read.query_sequence is not None
            assert read.query_qualities is not None
            assert len(read.query_sequence) == len(read.query_qualities) == read.infer_query_length()
            assert read.reference_length == 60  # the aligned block is as long as it was
            pairs = read.get_aligned_pairs()
            shown = [(read.query_sequence[q], sequence[r]) for q, r in pairs if q is not None and r is not None]
            assert all(base == true for base, true in shown)
            shorter += sum(size for kind, size in read.cigartuples or () if kind == 2)
            longer += sum(size for kind, size in read.cigartuples or () if kind == 1)
    assert shorter > longer > len(reads) / 50


def test_write_changed__equal_seeds_give_equal_reads(tmp_path):
    one = person(tmp_path, "a")
    assert one.alignments is not None
    assert one.reference is not None
    written = []
    for name, seed in (("x", 1), ("y", 1), ("z", 2)):
        change = SCENARIOS["formalin"]
        assert change is not None
        write_changed(one.alignments, one.reference, tmp_path / f"{name}.bam", change, seed)
        with pysam.AlignmentFile(str(tmp_path / f"{name}.bam")) as handle:
            written.append([(read.query_sequence, tuple(read.query_qualities or ())) for read in handle])
    assert written[0] == written[1] != written[2]


def test_quality_scenarios__change_no_base(tmp_path):
    one = person(tmp_path, "a")
    assert one.alignments is not None
    assert one.reference is not None
    for scenario, expected in (("qualities 8 too high", 38), ("four levels of quality", 37)):
        change = SCENARIOS[scenario]
        assert change is not None
        write_changed(one.alignments, one.reference, tmp_path / "changed.bam", change, 1)
        with (
            pysam.AlignmentFile(str(one.alignments)) as before,
            pysam.AlignmentFile(str(tmp_path / "changed.bam")) as after,
        ):
            for mine, other in zip(before, after, strict=True):
                assert mine.query_sequence == other.query_sequence
                assert np.unique(other.query_qualities) == [expected]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--scenario": "rust"}, "--scenario 'rust': one of "),
        ({"--score": "train.tsv"}, "train.tsv: 'a' is trained on in "),
    ],
)
def test_experiments_chemistry__bad_options_are_one_line(tmp_path, change, message):
    person(tmp_path, "a")
    rows = ["patient\tsite\talignments\ttruth\tregions\tsplit\tprivate\tsample"]
    rows.append("a\teast\ta/reads.bam\ta/truth.vcf.gz\ta/regions.bed\ttrain\tno\tp")
    (tmp_path / "train.tsv").write_text("\n".join(rows) + "\n")
    (tmp_path / "study.yaml").write_text("name: short\n")
    options = {
        "--study": "study.yaml",
        "--train": "train.tsv",
        "--score": "train.tsv",
        "--reference": "a/reference.fa",
        "--within": "1:1001-2000",
    } | change
    command = [sys.executable, "-c", "from fedcall.cli import main; main()", "experiments", "chemistry"]
    answer = subprocess.run(
        [*command, *(f"{name}={value}" for name, value in options.items())],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 2, answer.stderr
    assert answer.stderr.startswith(f"fedcall: {message}")
    assert answer.stderr.count("\n") == 1
