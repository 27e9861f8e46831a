"""A study through PySyft's folders: jobs of data, answered by whoever owns the data; nothing that they bring is run."""

import base64
import random
import shutil
from pathlib import Path

import pytest

from consortium import Consortium, make_consortium
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.aggregation import apply_update
from fedcall.federation.aggregator.datasites import Datasites
from fedcall.federation.aggregator.operation import close_study
from fedcall.federation.aggregator.state import StudyState
from fedcall.federation.drop_folder import NotThere
from fedcall.federation.site.datasite import Datasite, approve, approved_round, is_approved, read_round, study_jobs
from fedcall.federation.site.visits import Visitor, fetch_global, fetch_log, upload_update
from fedcall.federation.syft_jobs import MODEL_FILE, JobName, SyftBox, parse_name
from fedcall.keys import read_signing_key
from fedcall.study.sums import SumLayout, mean_update
from fedcall.weights import read_weights, weights_digest
from masked_consortium import make_masked_consortium

pytest.importorskip("syft_job", reason="PySyft is not installed (fedcall[syft])")

EMAILS = {"north": "north@hospital.example", "south": "south@hospital.example"}
COORDINATOR = "coordinator@example.org"


class Coordinator:
    """The aggregator's state and its PySyft folder, without Flower."""

    def __init__(self, consortium: Consortium, box: Path, emails: dict[str, str] = EMAILS) -> None:
        self.consortium, self.box, self.emails = consortium, box, emails
        self.start()

    def start(self) -> None:
        """Start, or start again after a kill: nothing is known but what lies on disk."""
        consortium = self.consortium
        key = read_signing_key(consortium.keys("coordinator"))
        self.state = StudyState(consortium.state, consortium.study, key, consortium.initial)
        box = SyftBox(self.box, COORDINATOR)
        self.datasites = Datasites(self.state, consortium.study_path.read_bytes(), box, self.emails, 1_000_000)

    def look(self) -> None:
        self.datasites._next_look = 0.0
        self.datasites.look()
        self.state.close_round_if_due()


class Hospital:
    """A site that goes on as far as the jobs it finds let it."""

    def __init__(self, consortium: Consortium, name: str, box: Path, approves_all: bool = True) -> None:
        self.consortium, self.name = consortium, name
        keys = consortium.keys(name)
        self.datasite = Datasite(SyftBox(box, EMAILS[name]), consortium.study, keys, approves_all)
        self.visitor = Visitor(consortium.study, name, keys, lambda: self.datasite, 0, 0)
        self.number = 1
        self.final: str | None = None

    def go_on(self) -> None:
        """Go on until something is missing; what is wrong is raised."""
        while self.final is None:
            try:
                self._step()
            except FedcallError as error:
                if "nothing is lost" not in str(error):
                    raise
                return

    def _step(self) -> None:
        folder, rounds = self.consortium.folder, self.consortium.study.rounds
        model = folder / f"{self.name}.{self.number}.global.safetensors"
        if not model.exists():
            fetch_global(self.visitor, self.number, model)
        if self.number > rounds:
            self.final = read_weights(model).digest
            return
        update, claim = self.consortium.write_answer(self.name, self.number, model, folder)
        receipt = upload_update(self.visitor, self.number, update, claim, folder / f"{self.name}.{self.number}.receipt")
        assert receipt.status == "accepted", receipt.sentence
        self.number += 1


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> tuple[Consortium, str]:
    """A study whose sites share one PySyft folder with the coordinator, and its final model."""
    consortium = make_consortium(tmp_path_factory.mktemp("expected"))
    box = consortium.folder / "box"
    coordinator = Coordinator(consortium, box)
    hospitals = [Hospital(consortium, name, box) for name in EMAILS]
    for _ in range(20):
        coordinator.look()
        for hospital in hospitals:
            hospital.go_on()
    assert hospitals[0].final == hospitals[1].final is not None
    return consortium, hospitals[0].final


def _copy(consortium: Consortium, folder: Path) -> Consortium:
    for name in ("keys", "study.json", "initial.safetensors"):
        source = consortium.folder / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, folder / name)
    for site in EMAILS:
        shutil.rmtree(folder / "keys" / site / "syft-approved", ignore_errors=True)
    return Consortium(folder, consortium.study)


def _mirror(source: Path, target: Path, parts: tuple[str, ...], generator: random.Random | None) -> None:
    """Copy what a synchroniser would of one owner's folder; with a generator in any order, and some files cut."""
    root = source.joinpath(*parts)
    files = [path for path in root.rglob("*") if path.is_file()]
    if generator is not None:
        generator.shuffle(files)
        files = files[: generator.randint(0, len(files))]
    for path in files:
        content = path.read_bytes()
        if generator is not None and generator.random() < 0.2:
            content = content[: generator.randint(0, len(content))]
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


@pytest.mark.parametrize("seed", range(4))
def test_datasites__half_written_folders_lose_nothing(seed, expected, tmp_path):
    """PySyft's folders are copied file by file: what is cut or missing is waited for, and nothing counts twice."""
    consortium = _copy(expected[0], tmp_path)
    generator = random.Random(seed)
    coordinator = Coordinator(consortium, tmp_path / "at-coordinator")
    hospitals = [Hospital(consortium, name, tmp_path / f"at-{name}") for name in EMAILS]
    for turn in range(150):
        coordinator.look()
        careless = None if turn % 4 == 3 else generator
        for hospital in hospitals:
            inbox = (EMAILS[hospital.name], "app_data", "job", "inbox")
            review = (EMAILS[hospital.name], "app_data", "job", "review")
            _mirror(coordinator.box, hospital.datasite.box.folder, inbox, careless)
            hospital.go_on()
            _mirror(hospital.datasite.box.folder, coordinator.box, review, careless)
        if turn % 5 == 4:
            coordinator.start()
        if all(hospital.final for hospital in hospitals):
            break
    assert {hospital.final for hospital in hospitals} == {expected[1]}
    assert fetch_log(hospitals[0].visitor, tmp_path / "log.jsonl") > 4


def test_datasites__a_job_is_data_and_its_entry_point_runs_nothing(expected):
    consortium = expected[0]
    jobs = SyftBox(consortium.folder / "box", EMAILS["north"]).jobs_at(EMAILS["north"])
    names = {str(parse_name(job.name, consortium.study)) for job in jobs}
    assert len(names) == 5, "three models (the last is final) and two receipts"
    for job in jobs:
        assert job.file("main.py").startswith(b"raise SystemExit("), "PySyft wants an entry point; ours ends at once"
        for path in (job.submission / "code").iterdir():
            assert path.suffix in (".json", ".jsonl", ".base64", ".txt") or path.name == "main.py"


def test_hospital__runs_nothing_that_a_job_brings(expected, tmp_path):
    """The scripts of a job are replaced by ones that would leave a trace; the study ends, and there is none."""
    consortium = _copy(expected[0], tmp_path)
    box, trace = tmp_path / "box", tmp_path / "trace"
    coordinator = Coordinator(consortium, box)
    hospitals = [Hospital(consortium, name, box) for name in EMAILS]
    for _ in range(20):
        coordinator.look()
        for path in box.glob("*/app_data/job/inbox/*/*/*/run.sh"):
            path.write_text(f"#!/bin/sh\ntouch {trace}\n")
            (path.parent / "code" / "main.py").write_text(f"open({str(trace)!r}, 'w')\n")
        for hospital in hospitals:
            hospital.go_on()
    assert {hospital.final for hospital in hospitals} == {expected[1]}
    assert not trace.exists()


def _one_job(consortium: Consortium, tmp_path: Path) -> tuple[Hospital, JobName]:
    coordinator = Coordinator(consortium, tmp_path / "box")
    coordinator.look()
    return Hospital(consortium, "north", tmp_path / "box", approves_all=False), JobName(
        consortium.study.digest, "round", 1
    )


def test_hospital__an_approval_holds_for_the_content_and_not_for_the_name(expected, tmp_path):
    hospital, name = _one_job(_copy(expected[0], tmp_path), tmp_path)
    ((found, job),) = study_jobs(hospital.datasite)
    assert found == name
    with pytest.raises(NotThere, match="not approved as it is now; run 'fedcall syft answer'"):
        approved_round(hospital.datasite, 1)
    approve(hospital.datasite, job, job.digest())
    ((_, job),) = study_jobs(hospital.datasite)
    assert job.status == "approved"
    assert job.info.review_reason == f"fedcall: content {job.digest()}"
    assert approved_round(hospital.datasite, 1)[1].kind == "model"

    (job.submission / "run.sh").write_text("#!/bin/sh\necho another\n")
    assert not is_approved(hospital.datasite, job.digest())
    with pytest.raises(NotThere, match="not approved as it is now"):
        approved_round(hospital.datasite, 1)


def test_hospital__pysyfts_own_approval_is_not_enough(expected, tmp_path):
    hospital, _ = _one_job(_copy(expected[0], tmp_path), tmp_path)
    ((_, job),) = study_jobs(hospital.datasite)
    job.info._client.scan_inbox()
    ((_, job),) = study_jobs(hospital.datasite)
    job.info.approve(reason="looks fine")
    with pytest.raises(NotThere, match="not approved as it is now"):
        approved_round(hospital.datasite, 1)


def test_hospital__a_job_that_the_coordinator_did_not_sign_is_none(expected, tmp_path):
    consortium = _copy(expected[0], tmp_path)
    hospital, name = _one_job(consortium, tmp_path)
    ((_, job),) = study_jobs(hospital.datasite)
    opening, model = job.submission / "code/opening.json", job.submission / "code" / MODEL_FILE
    signed = opening.read_bytes()
    opening.write_bytes(signed.replace(b'"round":1', b'"round":2'))
    with pytest.raises(NotThere, match="the signature does not match"):
        read_round(hospital.datasite, name, job)
    opening.write_bytes(signed)
    content = bytearray(base64.b64decode(model.read_bytes()))
    content[-1] ^= 1
    model.write_bytes(base64.b64encode(content))
    with pytest.raises(NotThere, match="the coordinator signed"):
        read_round(hospital.datasite, name, job)
    model.unlink()
    model.symlink_to(consortium.initial)
    with pytest.raises(NotThere, match=r"model\.safetensors"):
        read_round(hospital.datasite, name, job)
    stranger = SyftBox(tmp_path / "box", "stranger@example.org")
    stranger.submit(EMAILS["north"], name, {"opening.json": b"{}"})
    assert len(study_jobs(hospital.datasite)) == 2, "of two jobs of one name each is judged by its own content"
    with pytest.raises(NotThere):
        approved_round(hospital.datasite, 1)


def test_parse_name__only_jobs_of_this_study(expected):
    study = expected[0].study
    assert parse_name(str(JobName(study.digest, "round", 12)), study) == JobName(study.digest, "round", 12)
    for text in ("fedcall", f"fedcall-{'0' * 16}-round-0001", f"fedcall-{study.digest[:16]}-round-00001", "../x"):
        assert parse_name(text, study) is None


def test_datasites__carried_by_pysyft_itself(tmp_path, monkeypatch):
    """A round trip through PySyft's own synchronisation, with its public stand-in for the drive between them."""
    syft_rds = pytest.importorskip("syft_rds", reason="PySyft is not installed (fedcall[syft])")
    monkeypatch.setenv("PRE_SYNC", "false")
    scientist, owner = syft_rds.SyftRDSClient.pair_with_mock_drive_service_connection(
        email1=EMAILS["north"],
        email2=COORDINATOR,
        base_path1=tmp_path / "at-north",
        base_path2=tmp_path / "at-coordinator",
        use_in_memory_cache=False,
    )
    consortium = make_consortium(tmp_path, patients={"north": 40})
    coordinator = Coordinator(consortium, tmp_path / "at-coordinator", {"north": EMAILS["north"]})
    hospital = Hospital(consortium, "north", tmp_path / "at-north")
    for _ in range(12):
        coordinator.look()
        for folder in coordinator.box.glob("*/app_data/job/inbox/*/*/fedcall-*"):
            scientist.sync_engine.push_job_files(folder)
        for client in (scientist, owner):
            client.sync()
        hospital.go_on()
        for client in (owner, scientist):
            client.sync()
        if hospital.final:
            break
    assert hospital.final == read_weights(coordinator.state.model_path(3)).digest


def test_datasites__a_site_is_told_of_an_early_close(tmp_path):
    consortium = make_consortium(tmp_path, rounds=3)
    coordinator = Coordinator(consortium, tmp_path / "box")
    hospitals = [Hospital(consortium, name, tmp_path / "box") for name in EMAILS]
    while coordinator.state.log.open_round < 2:
        coordinator.look()
        for hospital in hospitals:
            hospital.go_on()
    coordinator.look()  # the job of round 2 lies there, open
    close_study(consortium.state, "enough")
    coordinator.start()
    coordinator.look()
    closing, model = tmp_path / "closing.json", tmp_path / "final.safetensors"
    for number in (2, 3):
        closing.unlink(missing_ok=True)
        with pytest.raises(FedcallError, match=r"closed study 'tiny' after round 1 \(enough\)"):
            fetch_global(hospitals[0].visitor, number, model, closing)
    assert fetch_global(hospitals[0].visitor, 2, model, closing).closed == "enough"
    assert read_weights(model).digest == read_weights(coordinator.state.model_path(2)).digest


def test_datasites__masked_updates_travel_as_others_do(tmp_path):
    """PySyft's folder in place of a network: the opened sum is that of addition in the clear."""
    consortium = make_masked_consortium(tmp_path, rounds=1, patients=dict.fromkeys(EMAILS, 40), minimum_sites=2)
    coordinator = Coordinator(consortium, consortium.folder / "box")
    hospitals = [Hospital(consortium, name, consortium.folder / "box") for name in EMAILS]
    base = read_weights(coordinator.state.model_path(1))
    for _ in range(12):
        coordinator.look()
        for hospital in hospitals:
            hospital.go_on()
        consortium.ask_helpers(coordinator.state)
    total = consortium.total(1, base)
    layout = SumLayout.of({name: tensor.shape for name, tensor in total.items()})
    clear = mean_update(consortium.study, layout, layout.flatten(total), sorted(EMAILS))
    expected = apply_update(base.tensors, clear, consortium.study.aggregation)
    assert {hospital.final for hospital in hospitals} == {weights_digest({**base.tensors, **expected.tensors})}
