"""One point of accuracy against epsilon: real training, scored as the commands score; private people are refused."""

from pathlib import Path

import pytest

from fedcall.errors import FedcallError, PrivacyRefusal
from fedcall.experiments.cohort import StudyCohort, open_cohort, refuse_private
from fedcall.experiments.sweep import score, utility_point
from fedcall.genomics.calling.calls import Provenance, write_calls
from fedcall.genomics.concordance.comparison import compare
from fedcall.genomics.examples import open_examples, write_examples
from fedcall.genomics.pileup.extraction import extract_examples
from fedcall.genomics.truth.normalise_labels import normalise_labels
from fedcall.model.caller import build_model, posteriors
from fedcall.privacy.terms import Adaptation
from fedcall.study.terms import Study
from fedcall.workflow.configuration import read_samples

STUDY = Study.model_validate(
    {
        "name": "swept",
        "rounds": 2,
        "model": {"trainable": "head"},
        "training": {"learning_rate": 1.0},
        "privacy": {
            "noise_multiplier": 2.0,
            "sampling_rate": 0.5,
            "steps_per_round": 6,
            "rows_per_unit": 32,
            "clip_norm": 0.5,
        },
    }
)


@pytest.fixture(scope="module")
def results(simulated_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what the workflow makes of the simulated cohort: examples and labels."""
    folder, reference = tmp_path_factory.mktemp("results"), simulated_cohort / "reference.fa"
    for row in read_samples(simulated_cohort / "samples.tsv"):
        assert row.truth is not None
        labels = folder / row.site / "labels" / f"{row.patient}.vcf.gz"
        examples = folder / row.site / "examples" / f"{row.patient}.safetensors"
        for path in (labels, examples):
            path.parent.mkdir(parents=True, exist_ok=True)
        normalise_labels(row.truth, reference, labels, sample=row.patient)
        write_examples(examples, extract_examples(row.alignments, reference, row.regions, labels, row.patient))
    return folder


@pytest.fixture(scope="module")
def cohort(simulated_cohort: Path, results: Path) -> StudyCohort:
    return open_cohort(simulated_cohort / "samples.tsv", simulated_cohort / "reference.fa", results)


def sheet(folder: Path, simulated_cohort: Path, *changes: tuple[str, str]) -> Path:
    """Return a copy of the cohort's sheet, with some text replaced."""
    text = (simulated_cohort / "samples.tsv").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    for file in simulated_cohort.iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "samples.tsv").unlink()
    (folder / "samples.tsv").write_text(text)
    return folder / "samples.tsv"


def test_open_cohort__trains_scores_and_leaves_public_people_out(cohort: StudyCohort, simulated_cohort: Path):
    assert {site: sorted(own) for site, own in cohort.training.items()} == {
        "north": ["north-001", "north-002"],
        "south": ["south-001", "south-002"],
    }
    assert [person.name for person in cohort.held_out] == ["north-h01", "south-h01"]
    assert cohort.rare_copies == 1  # six people: a single copy


def test_open_cohort__refuses_anybody_private(simulated_cohort: Path, results: Path, tmp_path: Path):
    one = sheet(tmp_path, simulated_cohort, ("train\tno\nnorth-002", "train\t\nnorth-002"))
    with pytest.raises(PrivacyRefusal, match=r"1 of 6 people are private \('north-001' first\).*no ledger") as refusal:
        open_cohort(one, simulated_cohort / "reference.fa", results)
    assert "\n" not in str(refusal.value)


def test_refuse_private__is_the_default_of_a_sheet_and_spares_public_people(simulated_cohort: Path, tmp_path: Path):
    simulated = read_samples(simulated_cohort / "samples.tsv")
    public = [row for row in simulated if row.split == "public"]
    rows = (simulated_cohort / "samples.tsv").read_text().splitlines(keepends=True)
    plain = [row.removesuffix("\tno\n").removesuffix("\tprivate\n") + "\n" for row in rows if "\tpublic\t" not in row]
    (simulated_cohort / "plain.tsv").write_text("".join(plain))
    everybody = read_samples(simulated_cohort / "plain.tsv")
    (simulated_cohort / "plain.tsv").unlink()
    assert {row.private for row in everybody} == {"yes"}
    with pytest.raises(PrivacyRefusal):
        refuse_private(Path("s.tsv"), everybody)
    refuse_private(Path("s.tsv"), public)
    refuse_private(Path("s.tsv"), simulated)


def test_open_cohort__needs_somebody_to_score(simulated_cohort: Path, results: Path, tmp_path: Path):
    nobody = sheet(tmp_path, simulated_cohort, ("holdout", "train"))
    with pytest.raises(FedcallError, match="nobody has split 'holdout'"):
        open_cohort(nobody, simulated_cohort / "reference.fa", results)


def test_score__is_what_the_concordance_of_the_calls_says(cohort: StudyCohort, results: Path, tmp_path: Path):
    model = build_model().eval()
    for person, found in zip(cohort.held_out, score(model, cohort), strict=True):
        site = person.name.split("-")[0]
        examples = open_examples(results / site / "examples" / f"{person.name}.safetensors")
        calls = tmp_path / f"{person.name}.vcf.gz"
        write_calls(calls, examples, posteriors(model, examples), person.reference, person.name, Provenance("x"))
        expected = compare(person.truth, calls, person.regions, person.reference)
        truth, tp, called, tp_calls = (sum(column) for column in zip(*found.snps, strict=True))
        assert (truth - tp, tp, called - tp_calls, tp_calls) == (
            expected.snps.fn,
            expected.snps.tp,
            expected.snps.fp,
            expected.snps.tp_calls,
        )
        assert found.indels is not None
        assert expected.indels is not None
        assert sum(block[1] for block in found.indels) == expected.indels.tp
        assert 0 <= found.rare[1] <= found.rare[0] < truth


def test_utility_point__same_seed_same_point_and_no_noise_is_said(cohort: StudyCohort):
    first = utility_point(STUDY, 3.0, cohort, build_model(), seed=4)
    assert first == utility_point(STUDY, 3.0, cohort, build_model(), seed=4)
    assert first.epsilon == pytest.approx(3.0, rel=2e-3)
    assert first.epsilon <= 3.0
    assert (first.asked, first.is_own, first.patients) == (3.0, False, {"north": 2, "south": 2})
    quiet = utility_point(STUDY, float("inf"), cohort, build_model())
    assert (quiet.epsilon, quiet.noise_multiplier, quiet.asked, quiet.is_own) == (None, 0, None, False)
    assert quiet.start == quiet.likelihood == first.likelihood
    assert quiet.trained != quiet.start


def test_utility_point__too_small_an_epsilon_is_a_mistake_not_a_crash(cohort: StudyCohort):
    strict = STUDY.model_copy(update={"privacy": STUDY.privacy.model_copy(update={"delta": 1e-12})})
    with pytest.raises(FedcallError, match="study 'swept': no noise multiplier"):
        utility_point(strict, 1e-7, cohort, build_model())


def test_utility_point__adaptive_clipping_that_so_few_patients_cannot_pay_for(cohort: StudyCohort):
    adaptive = STUDY.privacy.model_copy(update={"clipping": "adaptive", "adaptation": Adaptation()})
    with pytest.raises(FedcallError, match=r"study 'swept' at noise multiplier 2:.*infeasible"):
        utility_point(STUDY.model_copy(update={"privacy": adaptive}), None, cohort, build_model())
