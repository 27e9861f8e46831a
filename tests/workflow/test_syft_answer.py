"""`fedcall syft answer`: what a data owner is shown, and what happens when they agree."""

import shutil
from pathlib import Path

import pytest

from consortium import Consortium, make_consortium
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.datasites import Datasites
from fedcall.federation.aggregator.operation import close_study
from fedcall.federation.aggregator.state import StudyState
from fedcall.federation.site.datasite import Datasite
from fedcall.federation.site.visits import Visitor, fetch_global, upload_update
from fedcall.federation.syft_jobs import JobName, SyftBox
from fedcall.keys import read_signing_key
from fedcall.weights import read_weights
from fedcall.workflow.closing import CLOSING, closed_after
from fedcall.workflow.configuration import Config
from fedcall.workflow.run import Run
from fedcall.workflow.syft_answer import DataOwner, answer_jobs

pytest.importorskip("syft_job", reason="PySyft is not installed (fedcall[syft])")

EMAIL = "north@hospital.example"
COHORT = {"seed": 1, "sites": {"north": 3}, "holdout": 0, "public": 0}


class Scene:
    """A coordinator and one hospital that share a PySyft folder; the workflow is played by three lines."""

    def __init__(self, folder: Path) -> None:
        self.consortium: Consortium = make_consortium(folder, patients={"north": 40})
        study, self.box = self.consortium.study, folder / "box"
        key = read_signing_key(self.consortium.keys("coordinator"))
        self.state = StudyState(self.consortium.state, study, key, self.consortium.initial)
        box = SyftBox(self.box, "coordinator@example.org")
        self.coordinator = Datasites(
            self.state, self.consortium.study_path.read_bytes(), box, {"north": EMAIL}, 1_000_000
        )
        config = Config.model_validate(
            {
                "study": str(self.consortium.study_path),
                "cohort": COHORT,
                "site": "north",
                "syft": {"folder": str(self.box), "datasite": "{site}@hospital.example"},
                "approved_study": study.digest,
                "site_key": str(folder / "keys/{site}"),
            }
        )
        self.run = Run(config, study, ("north",), ())
        self.shown: list[str] = []
        self.ran: list[Path | None] = []

    def look(self) -> None:
        self.coordinator._next_look = 0.0
        self.coordinator.look()
        self.state.close_round_if_due()

    def answer(self, agrees: bool = True) -> list[str]:
        def asked(about: str) -> bool:
            self.shown.append(about)
            return agrees

        return list(answer_jobs(self.run, DataOwner(asked, self.run_workflow)))

    def run_workflow(self, target: Path | None) -> None:
        """Fetch, train and upload as the rules do, up to the target."""
        self.ran.append(target)
        study, folder, keys = self.consortium.study, self.consortium.folder, self.consortium.keys("north")
        datasite = Datasite(SyftBox(self.box, EMAIL), study, keys)
        visitor = Visitor(study, "north", keys, lambda: datasite, 0, 0)
        number = study.rounds + 1 if target is None else int(target.parent.name)
        if number > 1:
            update, claim = (folder / f"north.{number - 1}.{end}" for end in ("safetensors", "claim.json"))
            receipt = upload_update(visitor, number - 1, update, claim, folder / f"{number - 1}.receipt.json")
            assert receipt.status == "accepted"
        model = folder / f"global.{number}.safetensors"
        fetch_global(visitor, number, model)
        if target is not None:
            update, claim = self.consortium.write_answer("north", number, model, folder)
            target.parent.mkdir(parents=True)
            shutil.copyfile(update, target.with_name("update.safetensors"))
            shutil.copyfile(claim, target)


@pytest.fixture
def scene(tmp_path, monkeypatch) -> Scene:
    monkeypatch.chdir(tmp_path)
    return Scene(tmp_path)


def test_answer__a_study_from_the_first_job_to_the_final_model(scene):
    assert scene.answer() == [f"no job of study 'tiny' for {EMAIL} in {scene.box}"]
    for number in (1, 2):
        scene.look()
        (line,) = scene.answer()
        assert line.endswith(f"-round-{number:04d}: answered")
        scene.look()
        scene.look()
    (line,) = scene.answer()
    assert line.endswith("-round-0003: done: the study's final model is here")
    final = read_weights(scene.consortium.folder / "global.3.safetensors")
    assert final.digest == read_weights(scene.state.model_path(3)).digest
    assert scene.ran[-1] is None
    assert scene.answer() == [], "a finished answer is not made twice"


def test_answer__shows_study_round_and_what_it_costs_each_patient(scene):
    scene.look()
    (line,) = scene.answer(agrees=False)
    assert line.endswith("left as it is")
    assert not scene.ran, "nobody agreed, nothing ran"
    (about,) = scene.shown
    assert f"study        tiny ({scene.consortium.study.digest})" in about
    assert "round        1 of 2" in about
    assert "epsilon" in about
    assert "the study's limit is 3" in about
    assert "left by coordinator@example.org" in about


def test_answer__what_changed_while_the_workflow_ran_is_not_answered(scene):
    scene.look()

    def run_workflow(target: Path | None) -> None:
        scene.run_workflow(target)
        (script,) = scene.box.glob(f"{EMAIL}/app_data/job/inbox/*/*/*/run.sh")
        script.write_text("#!/bin/sh\nsomething else\n")

    (line,) = answer_jobs(scene.run, DataOwner(lambda _: True, run_workflow))
    assert "changed after it was approved" in line
    assert not list(scene.box.rglob("outputs/claim.json"))


def test_answer__a_workflow_that_fails_hands_nothing_in(scene):
    scene.look()

    def fail(target: Path | None) -> None:
        raise FedcallError("the workflow failed")

    with pytest.raises(FedcallError, match="the workflow failed"):
        list(answer_jobs(scene.run, DataOwner(lambda _: True, fail)))
    assert not list(scene.box.rglob("outputs/claim.json"))
    (line,) = scene.answer()
    assert line.endswith("answered")
    assert len(scene.shown) == 0, "it was approved before"


def test_answer__a_job_that_nobody_signed_is_never_shown(scene):
    scene.look()
    (opening,) = scene.box.rglob("code/opening.json")
    opening.write_bytes(opening.read_bytes().replace(b'"round":1', b'"round":2'))
    (line,) = scene.answer()
    assert "not answered" in line
    assert "signature does not match" in line
    assert not scene.shown


def close_after_a_round(scene: Scene) -> None:
    """Play round 1, leave the job of round 2, and close the study with that job open."""
    scene.look()
    scene.answer()
    scene.look()
    scene.look()
    close_study(scene.consortium.state, "the budget of one more round\nbuys nothing", operator="me@here")
    scene.state.log.catch_up()
    scene.look()
    left = {tuple(path.name.split("-")[-2:]) for path in scene.box.glob(f"{EMAIL}/app_data/job/inbox/*/*/*")}
    assert left >= {("round", "0002"), ("closing", "0002")}


def test_answer__a_closing_job_is_shown_and_the_round_that_was_open_is_not_trained(scene):
    close_after_a_round(scene)
    scene.shown.clear()
    (line,) = scene.answer(agrees=False)
    assert line.endswith("-closing-0002: left as it is")
    (about,) = scene.shown
    assert "round        final model: the study is closed early" in about
    assert "it costs     nobody anything" in about
    ran = len(scene.ran)
    study, kept = scene.consortium.study, Path("results/tiny") / CLOSING
    final = scene.consortium.folder / "final.safetensors"

    def run_workflow(target: Path | None) -> None:
        assert target is None, "the workflow runs to its end, and to no round"
        datasite = Datasite(SyftBox(scene.box, EMAIL), study, scene.consortium.keys("north"))
        fetch_global(Visitor(study, "north", datasite.keys, lambda: datasite, 0, 0), 2, final, kept)

    (line,) = answer_jobs(scene.run, DataOwner(lambda _: True, run_workflow))
    assert "-closing-0002: done: the study was closed (the budget of one more round\\nbuys nothing)" in line
    assert closed_after(kept, study) == 1
    assert read_weights(final).digest == read_weights(scene.state.model_path(2)).digest
    assert scene.answer() == [], "round 2 is still there, and nobody is asked to pay for it"
    assert len(scene.ran) == ran


def test_answer__a_workflow_that_fails_after_a_closing_asks_for_no_round_either(scene):
    close_after_a_round(scene)

    def fail(target: Path | None) -> None:
        raise FedcallError("the workflow failed")

    with pytest.raises(FedcallError, match="the workflow failed"):
        list(answer_jobs(scene.run, DataOwner(lambda _: True, fail)))
    ran: list[Path | None] = []
    (line,) = answer_jobs(scene.run, DataOwner(lambda _: True, ran.append))
    assert "the study was closed" in line
    assert ran == [None]


@pytest.mark.parametrize("forged", ["no signature", "opening of a round"])
def test_answer__a_closing_that_nobody_signed_stops_no_round(scene, forged):
    scene.look()
    (job,) = scene.box.rglob("code/opening.json")
    files = {path.name: path.read_bytes() for path in job.parent.iterdir()}
    if forged == "no signature":
        files["opening.json"] = files["opening.json"].replace(b'"round":1', b'"round":2')
    number = 2 if forged == "no signature" else 1
    name = JobName(scene.consortium.study.digest, "closing", number)
    assert SyftBox(scene.box, "stranger@example.org").submit(EMAIL, name, files)
    closing, first = scene.answer()
    assert f"-closing-{number:04d}: not answered" in closing
    assert first.endswith("-round-0001: answered")
    assert len(scene.shown) == 1, "only the round was shown"
    assert not (Path("results/tiny") / CLOSING).exists()
