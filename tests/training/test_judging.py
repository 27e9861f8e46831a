"""The private judge at a site: charged before release, the same release again, one noisy number and public ones."""

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fedcall.documents import read_signed
from fedcall.errors import FedcallError, PrivacyRefusal
from fedcall.files import write_text
from fedcall.keys import create_keys, read_secret
from fedcall.model.caller import build_model, save_model, weights_of
from fedcall.privacy.events import Event
from fedcall.privacy.ledger.ledger import Ledger, Member, ReleaseRequest
from fedcall.privacy.mechanism.clipping import GRID
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.judgement import Judgement
from fedcall.study.terms import ModelTerms, Site, Study
from fedcall.training import judging
from fedcall.training.judging import HeldOut, JudgingSite, judge_models
from fedcall.weights import weights_digest
from made_concordances import TRUTH, made_concordance, no_regions

EPSILON = 1.0


class Hospital:
    """A site with keys and held-out patients, who judge a study's final model."""

    def __init__(self, folder: Path, declared: int = 8, **evaluation) -> None:
        self.folder = folder
        identity = create_keys(folder / "keys", "north")
        model = build_model()
        save_model(folder / "initial.safetensors", model)
        save_model(folder / "final.safetensors", model)
        site = Site(name="north", public_key=identity.public_key, node_key="ssh", patients=3, holdout=declared)
        self.study = Study(
            name="tiny",
            coordinator=identity.public_key,
            sites=(site,),
            model=ModelTerms(initial_weights=weights_digest(weights_of(model))),
            rounds=5,
            privacy=PrivacyTerms(delta=0.01, max_epsilon=3.0),
            evaluation={"epsilon": EPSILON, **evaluation},
        )
        self.ledger = folder / "ledger.sqlite"
        self.output = folder / "judgement.json"

    @property
    def site(self) -> JudgingSite:
        return JudgingSite("north", self.folder / "keys", self.ledger)

    @property
    def models(self) -> tuple[Path, Path]:
        return self.folder / "initial.safetensors", self.folder / "final.safetensors"

    def judge(self, changes: list[int], study: Study | None = None, **people: Member):
        """Judge on patients of whose 200 variants the final model gets so many more right."""
        before, after = [], []
        for number, change in enumerate(changes):
            for paths, caller, right in ((before, "initial", 140), (after, "final", 140 + change)):
                paths.append(self.folder / caller / f"h{number}.json")
                write_text(paths[-1], made_concordance(right).model_dump_json())
        held_out = HeldOut(before, after, people)
        return judge_models(study or self.study, self.site, self.models, held_out, self.output)

    def kinds(self) -> list[str]:
        with Ledger.open_to_read(self.ledger) as ledger:
            return [row.kind for row in ledger.rows()]


def test_judge_models__is_a_release_of_the_round_after_the_last(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path)
    outcome = hospital.judge([4] * 8)
    assert outcome.state == "judged"
    assert hospital.kinds() == ["reserve", "release"]
    with Ledger.open_to_read(hospital.ledger) as ledger:
        row = next(ledger.rows())
    event = json.loads(row.event)
    assert (row.round, event["mechanism"], event["noise_multiplier"]) == (6, "laplace", 1 / EPSILON)
    signed = read_signed(hospital.output, Judgement, str(hospital.study.coordinator))
    assert signed == outcome.judgement
    assert signed.total is not None
    # 8 people at +.02 of a clip of .05, and noise of one clip: within 20 scales of the exact sum
    assert abs(signed.total / GRID - 8 * 4 / TRUTH / 0.05) < 20


def test_judge_models__charges_before_it_releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hospital = Hospital(tmp_path)

    def killed(*_: object) -> int:
        assert hospital.kinds() == ["reserve"], "charged before the noisy sum exists"
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(judging, "noisy_total", killed)
        with pytest.raises(KeyboardInterrupt):
            hospital.judge([4] * 8)
    assert not hospital.output.exists()
    assert hospital.judge([4] * 8).state == "judged"
    assert hospital.kinds() == ["reserve", "release"], "charged once"


def test_judge_models__again_it_is_the_same_release_and_costs_nothing(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path)
    hospital.judge([4] * 8)
    first = hospital.output.read_bytes()
    hospital.output.unlink()
    assert hospital.judge([4] * 8).state == "returned"
    assert hospital.output.read_bytes() == first
    assert hospital.kinds() == ["reserve", "release"]


def test_judge_models__other_results_under_the_same_release_are_refused(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path)
    hospital.judge([4] * 8)
    with pytest.raises(PrivacyRefusal, match="charged for other inputs"):
        hospital.judge([4] * 7 + [3])


def test_judge_models__nothing_but_the_noisy_sum_depends_on_the_patients(tmp_path: Path) -> None:
    one, other = Hospital(tmp_path / "one"), Hospital(tmp_path / "other")
    few, many = one.judge([-60]).judgement, other.judge([60] * 8).judgement
    public = {"study", "site", "outcome", "initial", "people", "evaluation", "software", "final"}
    assert set(Judgement.model_fields) == public | {"total", "ledger_head"}
    for name in public - {"study"}:  # the two hospitals have other keys, so other studies
        assert getattr(few, name) == getattr(many, name)
    assert few.people == 8, "the declared number, not how many there were"


def test_judge_models__one_patient_moves_the_sum_by_at_most_the_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = []
    monkeypatch.setattr(judging, "noisy_total", lambda secret, context, total, *_: exact.append(total) or 0)
    for number, changes in enumerate(([4] * 7, [4] * 7 + [60], [4] * 7 + [-140])):
        Hospital(tmp_path / str(number)).judge(changes)
    without, up, down = exact
    assert (up - without, down - without) == (GRID, -GRID)


def test_judge_models__patients_beyond_the_declared_number_or_of_one_model_are_refused(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, declared=2)
    with pytest.raises(FedcallError, match="3 held-out patients given, but site 'north' declared 2"):
        hospital.judge([1, 2, 3])
    assert not hospital.ledger.exists()


def test_judge_models__study_without_a_judge_is_refused(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path)
    site = hospital.study.sites[0].model_copy(update={"holdout": None})
    plain = hospital.study.model_copy(update={"evaluation": None, "sites": (site,)})
    with pytest.raises(FedcallError, match="has no held-out patients to judge on"):
        hospital.judge([1], plain)


def test_judge_models__nowhere_to_compare_is_said_before_anything_is_charged(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, regions=("20",))
    paths = [tmp_path / name / "h0.json" for name in ("a", "b")]
    for path in paths:
        write_text(path, no_regions().model_dump_json())
    with pytest.raises(FedcallError, match=r"regions within evaluation\.regions"):
        judge_models(hospital.study, hospital.site, hospital.models, HeldOut(paths[:1], paths[1:]), hospital.output)
    assert not hospital.ledger.exists()


EVENT = Event(unit="patient", mechanism="gaussian", noise_multiplier=12.0, sampling_rate=1.0, steps=8)


def exhaust(hospital: Hospital, member: Member | str, cap: float = 3.0) -> None:
    """Train on a person in another study until the budget is spent."""
    request = ReleaseRequest("e" * 64, "north", 1, EVENT, 0.01, cap, (member,), "f" * 64)
    with Ledger.open(hospital.ledger, read_secret(hospital.folder / "keys")) as ledger:
        while ledger.reserve(request).charged:
            request = replace(request, round=request.round + 1)


@pytest.fixture
def sums(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exact sums that got noise, which nobody outside ever sees."""
    found: list[int] = []
    original = judging.noisy_total

    def remember(secret: bytes, context: object, exact: int, *rest: object) -> int:
        found.append(exact)
        return original(secret, context, exact, *rest)

    monkeypatch.setattr(judging, "noisy_total", remember)
    return found


def hospitals(tmp_path: Path) -> tuple[Hospital, Hospital]:
    """Return two hospitals that differ in nothing but the folder: the same keys, so the same study."""
    one = Hospital(tmp_path / "one")
    shutil.copytree(one.folder, tmp_path / "other")
    other = copy.copy(one)
    other.folder = tmp_path / "other"
    other.ledger, other.output = other.folder / "ledger.sqlite", other.folder / "judgement.json"
    return one, other


@pytest.mark.parametrize("row", ["h3", "another_row"])
def test_judge_models__whose_budget_is_spent_counts_as_no_difference_and_nobody_is_told(
    tmp_path: Path, sums: list[int], row: str
) -> None:
    """Point 1: an individual filter. Point 2: the person is charged, whatever the rows of the sheets are called."""
    everybody, spent = hospitals(tmp_path)
    ann = Member("h3", "Ann")
    exhaust(spent, replace(ann, patient=row))
    outcomes = [hospital.judge([4] * 8, h3=ann) for hospital in (everybody, spent)]
    assert {(one.state, one.sentence) for one in outcomes} == {("judged", "judged and charged")}
    assert sums[1] == sums[0] * 7 // 8
    found = [json.loads(hospital.output.read_bytes())["body"] for hospital in (everybody, spent)]
    differ = {name for name in found[0].keys() | found[1].keys() if found[0][name] != found[1][name]}
    assert differ == {"total", "ledger_head"}, "noise, and a hash of the site's ledger"
    lengths = {len(hospital.output.read_bytes()) - len(str(body["total"])) for hospital, body in zip(
        (everybody, spent), found, strict=True
    )}  # fmt: skip
    assert len(lengths) == 1


def test_judge_models__data_of_one_person_is_not_judged_on_as_anothers(tmp_path: Path) -> None:
    """Point 2: the ledger knows the reads again."""
    hospital = Hospital(tmp_path)
    exhaust(hospital, Member("t1", "Ann", ("reads of Ann",)))
    with pytest.raises(PrivacyRefusal, match=r"'h3': .* knows this data as another person's"):
        hospital.judge([4] * 8, h3=Member("h3", "Bob", ("reads of Ann",)))
    assert not hospital.output.exists()


def test_judge_models__the_hospitals_own_limit_holds(tmp_path: Path, sums: list[int]) -> None:
    """Point 3: whoever would pass it counts as no difference, and the ledger keeps it with the charge."""
    (tmp_path / "limit.yaml").write_text("epsilon: 0.5\ndelta: 0.001\n")
    hospital = Hospital(tmp_path)
    assert hospital.judge([4] * 8).state == "judged"
    assert sums == [0], "the judge's epsilon is 1"
    with Ledger.open_to_read(hospital.ledger) as ledger:
        assert ledger.exhausted(hospital.study.digest) == {6: 8}
