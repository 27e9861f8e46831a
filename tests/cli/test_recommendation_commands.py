"""Which model to use, as `fedcall report evaluation` says it: each answer, from files."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from fedcall.cli import report
from fedcall.documents import write_signed
from fedcall.errors import FedcallError
from fedcall.files import write_text
from fedcall.keys import read_signing_key
from fedcall.privacy.mechanism.clipping import GRID
from fedcall.reporting.evaluation.documents import EvaluationReport
from fedcall.study.evaluation import EvaluationTerms
from fedcall.study.judgement import JudgedSite, Verdict
from fedcall.study.terms import Study
from made_concordances import made_concordance
from reporting_study import ZERO, make_federation

CLIP = 0.05
UNSEEN = EvaluationTerms(regions=("chr1:1-100",), epsilon=0.3, clip=CLIP)
SHEET = ("patient", "person", "site", "alignments", "truth", "regions", "split", "private")


class Desk:
    """A folder with a signed study, and the results of people who are right about so many of 200 variants."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.federation = folder, make_federation(folder)
        self.paths: list[Path] = []
        self.options: list[str] = []

    def agree(self, terms: EvaluationTerms, held_out: int) -> Study:
        sites = [site.model_copy(update={"holdout": held_out}) for site in self.federation.study.sites]
        study = self.federation.study.model_copy(update={"evaluation": terms, "sites": tuple(sites)})
        write_signed(self.federation.path, study, read_signing_key(self.federation.coordinator))
        return study

    def score(self, before: Sequence[int], after: Sequence[int], site: str = "public", unseen: bool = False) -> "Desk":
        for caller, rights in (("initial", before), ("final", after)):
            for number, right in enumerate(rights):
                path = self.folder / site / ("unseen" if unseen else "concordance") / caller / f"{site}{number}.json"
                write_text(path, made_concordance(right).model_dump_json())
                if unseen:
                    self.options += ["--unseen", str(path)]
                else:
                    self.paths.append(path)
        return self

    def judged(self, gain: float, terms: EvaluationTerms = UNSEEN, people: int = 107) -> "Desk":
        """Add the verdict of both sites' held-out people, whose mean difference of F1 is `gain`."""
        study = self.agree(terms, people)
        sites = [
            JudgedSite(site=one.name, people=people, total=round(people * gain / CLIP * GRID)) for one in study.sites
        ]
        verdict = Verdict(study=study.digest, initial=ZERO, final=ZERO, sites=tuple(sites), log_head=ZERO)
        path = self.folder / "verdict.json"
        write_signed(path, verdict, read_signing_key(self.federation.coordinator))
        self.options += ["--verdict", str(path)]
        return self

    def sheet(self, *rows: tuple[str, str, str]) -> "Desk":
        """Add a sheet: (patient, person, split)."""
        lines = [SHEET, *((name, person, "public", "x.bam", "", "", split, "no") for name, person, split in rows)]
        path = self.folder / "samples.tsv"
        path.write_text("".join("\t".join(line) + "\n" for line in lines))
        self.options += ["--sheet", str(path)]
        return self

    def report(self) -> EvaluationReport:
        app = typer.Typer()
        report.register(app)
        app.callback()(lambda: None)
        first, last, kept = (self.folder / f"{name}.safetensors" for name in ("initial", "final", "recommended"))
        first.write_bytes(b"the first model")
        last.write_bytes(b"the last model")
        output = ("--html", self.folder / "evaluation.html", "--json", self.folder / "evaluation.json")
        output = (*output, "--initial", first, "--final", last, "--recommended", kept)
        command = ["report", "evaluation", "--study", self.federation.path, *output, *self.options, *self.paths]
        done = CliRunner().invoke(app, [str(part) for part in command], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        found = EvaluationReport.model_validate_json((self.folder / "evaluation.json").read_bytes())
        assert done.stdout.strip() == found.sentence
        assert found.gate.headline in (self.folder / "evaluation.html").read_text()
        assert kept.read_bytes() == (last if found.gate.decision == "use" else first).read_bytes()
        return found


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


BEFORE, BETTER, WORSE, MIXED = [140] * 8, [160] * 8, [120] * 8, [150, 134, 148, 133, 149, 135, 146, 137]


@pytest.mark.parametrize(
    ("after", "decision", "model", "start"),
    [
        (BETTER, "use", "final.safetensors", "Use final.safetensors. On 8 public people who trained no model, in"),
        (MIXED, "no-difference", "initial.safetensors", "Keep initial.safetensors: no difference was seen."),
        (BEFORE, "no-difference", "initial.safetensors", "Keep initial.safetensors: no difference was seen."),
        (WORSE, "worse", "initial.safetensors", "Keep initial.safetensors: the jointly trained model is worse."),
        (BETTER[:5], "cannot-tell", None, "Cannot tell which model is better: 5 people are too few"),
    ],
)
def test_recommend__public_people_decide_where_there_is_no_judge(
    desk: Desk, after: list[int], decision: str, model: str | None, start: str
) -> None:
    before = BEFORE[: len(after)]
    found = desk.score(before, after).score(before, after, unseen=True).report()
    assert (found.gate.decision, found.gate.model, found.judge) == (decision, model, None)
    assert found.sentence.startswith(start)
    assert found.gate.people == len(after)


def test_recommend__a_gain_where_models_were_trained_is_not_enough(desk: Desk) -> None:
    found = desk.score(BEFORE, BETTER).report()
    assert found.gate.decision == "cannot-tell"
    assert "a gain was seen, but not on regions that nobody trained on" in found.sentence


def test_recommend__nobody_to_judge_on_is_said(desk: Desk) -> None:
    found = desk.score(BEFORE, BETTER, site="north").report()
    assert (found.gate.decision, found.gate.people) == ("cannot-tell", 0)
    assert "no held-out public people" in found.sentence


@pytest.mark.parametrize(
    ("gain", "decision", "model", "words"),
    [
        (0.03, "use", "final.safetensors", "Use final.safetensors. On 214 held-out patients of 2 hospitals the joint"),
        (0.001, "no-difference", "initial.safetensors", "Keep initial.safetensors: no difference was seen. On 214"),
        (-0.03, "worse", "initial.safetensors", "Keep initial.safetensors: the jointly trained model is worse. On 214"),
    ],
)  # fmt: skip
def test_recommend__the_judge_decides_where_there_is_one_whatever_public_people_say(
    desk: Desk, gain: float, decision: str, model: str, words: str
) -> None:
    public = WORSE if gain > 0 else BETTER
    found = desk.score(BEFORE, public).score(BEFORE, public, unseen=True).judged(gain).report()
    assert (found.gate.decision, found.gate.model, found.gate.people) == (decision, model, 214)
    assert found.gate.basis == "held-out patients"
    assert found.sentence.startswith(words)
    assert "at epsilon = 0.3 per held-out patient, in regions that nobody trained on." in found.sentence
    assert found.judge is not None
    assert found.judge.gain == pytest.approx(gain, abs=1e-4)


def test_recommend__the_judge_has_too_few_people_or_only_trained_regions(desk: Desk) -> None:
    few = desk.score(BEFORE, BETTER).judged(0.05, people=2).report()
    assert (few.gate.decision, few.gate.people) == ("cannot-tell", 4)
    assert "4 people are too few" in few.sentence
    desk.options.clear()
    seen = desk.judged(0.04, EvaluationTerms(epsilon=0.3, clip=CLIP)).report()
    assert seen.gate.decision == "cannot-tell"
    assert "a gain was seen, but not on regions that nobody trained on" in seen.sentence


def test_recommend__a_judge_whom_no_site_answered_leaves_it_to_public_people(desk: Desk) -> None:
    study = desk.agree(UNSEEN, 3)
    path = desk.folder / "verdict.json"
    empty = Verdict(study=study.digest, initial=ZERO, final=ZERO, sites=(), log_head=ZERO)
    write_signed(path, empty, read_signing_key(desk.federation.coordinator))
    desk.options += ["--verdict", str(path)]
    found = desk.score(BEFORE, BETTER).score(BEFORE, BETTER, unseen=True).report()
    assert (found.gate.decision, found.gate.basis, found.gate.people) == ("use", "public people", 8)
    assert found.judge is not None
    assert found.judge.sentence == "no site judged the final model on held-out patients"


def test_recommend__parts_of_one_person_are_one_person(desk: Desk) -> None:
    rows = [(f"public{number}", f"person{number // 2}", "holdout") for number in range(8)]
    found = desk.score(BEFORE, BETTER).score(BEFORE, BETTER, unseen=True).sheet(*rows).report()
    assert (found.gate.decision, found.gate.people) == ("cannot-tell", 4)
    assert "4 people are too few" in found.sentence
    assert found.scopes[0].patients == 4


def test_recommend__a_person_who_is_trained_on_elsewhere_is_nobody_to_judge_on(desk: Desk) -> None:
    """The halves of NA12878: one to train the first model on, one to be scored on."""
    rows = [(f"public{number}", f"person{number}", "holdout") for number in range(8)]
    trained = [(f"other_half{number}", f"person{number}", "public") for number in range(8)]
    desk.score(BEFORE, BETTER).score(BEFORE, BETTER, unseen=True)
    some = desk.sheet(*rows, *trained[:1]).report()
    assert (some.gate.decision, some.gate.people) == ("use", 7)
    none = desk.sheet(*rows, *trained).report()
    assert (none.gate.decision, none.gate.people) == ("cannot-tell", 0)
    assert "is trained on there" in none.sentence


def test_report_evaluation__verdict_about_another_study_or_of_another_signer_is_refused(desk: Desk) -> None:
    desk.score(BEFORE, BETTER).judged(0.03)
    desk.agree(UNSEEN, 5)
    with pytest.raises(FedcallError, match="the verdict is about study"):
        desk.report()
    verdict = Verdict(study=ZERO, initial=ZERO, final=ZERO, sites=(), log_head=ZERO)
    write_signed(desk.folder / "verdict.json", verdict, read_signing_key(desk.federation.sites["north"].keys))
    with pytest.raises(FedcallError, match="signed by another key"):
        desk.report()
