"""The audit's bounds, and its power: sound training stays quiet, every planted fault is caught."""

import json
from dataclasses import replace

import jsonschema
import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

from fedcall.experiments import audit as audit_module
from fedcall.experiments import one_run
from fedcall.experiments.audit import as_text, audit
from fedcall.experiments.bounds import Curve, Guesses, claimed_curve, contradicts, epsilon_bound, guess
from fedcall.experiments.canaries import spread
from fedcall.experiments.documents import Interval, MembershipReport
from fedcall.experiments.faults import FAULTS, unwatched
from fedcall.experiments.measurement import measure
from fedcall.experiments.one_run import SCENES, audit_scene, scene_terms, scenes_of
from fedcall.model.unit_copies import UnitCopies
from fedcall.privacy.accounting.epsilon import study_epsilon
from fedcall.privacy.terms import PrivacyTerms
from fedcall.reporting.base.pages import render, to_json
from fedcall.reporting.privacy.audit_page import audit_figures
from fedcall.reporting.schemas import report_schema
from fedcall.study.terms import Study
from fedcall.training import dp_sgd, units
from reporting_page import shown_values

STUDY = Study.model_validate(
    {"name": "audited", "rounds": 2, "model": {"trainable": "head"}, "privacy": {"noise_multiplier": 2.0}}
)
_CHANCE = Interval(value=0.52, low=0.46, high=0.59)
_ATTACKED = MembershipReport(
    model="as in the study",
    epsilon=2.9,
    unit="patient",
    delta=1e-3,
    steps=60,
    accuracy=_CHANCE,
    most_accuracy=0.95,
    auc=_CHANCE,
    named=_CHANCE,
    most_named=0.93,
)
_OPEN = _ATTACKED.model_copy(
    update={"model": "without privacy", "epsilon": None, "most_accuracy": None, "most_named": None}
)


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_epsilon_bound__holds_for_randomised_response(epsilon):
    generator = np.random.default_rng(1)
    correct = generator.binomial(1000, expit(epsilon), size=200)
    bounds = [epsilon_bound([Guesses(1000, 1000, int(right))], 1e-5, 0.95) for right in correct]
    assert np.mean(np.array(bounds) > epsilon) <= 0.07
    assert np.mean(bounds) > 0.7 * epsilon  # and says something


def test_epsilon_bound__nothing_from_guessing_and_never_beyond_what_can_be_proven():
    assert epsilon_bound([Guesses(1000, 1000, 500)], 1e-5, 0.95) == 0
    assert 5.5 < epsilon_bound([Guesses(1000, 1000, 1000)], 1e-9, 0.95) < 6


def test_curve__of_a_gaussian_is_its_trade_off_function():
    terms = PrivacyTerms(noise_multiplier=1.5, sampling_rate=1.0, steps_per_round=1, delta=1e-5)
    curve, chances = claimed_curve(terms), np.linspace(0.01, 0.99, 25)
    exact = norm.cdf(norm.ppf(chances) - 1 / 1.5)  # Dong et al. 2022, equation 6
    found = np.array([curve.at(chance) for chance in chances])
    assert (found <= exact + 1e-6).all()
    assert found == pytest.approx(exact, abs=0.02)


def test_contradicts__a_gaussian_seldom_that_is_as_private_as_claimed_but_one_with_half_the_noise():
    generator = np.random.default_rng(2)
    curve = claimed_curve(PrivacyTerms(noise_multiplier=1.2, sampling_rate=1.0, steps_per_round=1, delta=1e-5))

    def alarm(noise: float) -> bool:
        members = generator.random(5000) < 0.5
        return contradicts(curve, guess(members + generator.normal(0, noise, 5000), members), 0.95)

    assert sum(alarm(1.2) for _ in range(20)) <= 2
    assert sum(alarm(0.6) for _ in range(20)) >= 18


def test_contradicts__perfect_guesses_of_a_mechanism_that_promises_everything():
    curve = Curve(np.array([0.0]), np.array([0.0]))  # ε = 0: nobody can do better than a coin
    assert contradicts(curve, [Guesses(100, 100, 75)], 0.95)
    assert not contradicts(curve, [Guesses(100, 100, 52)], 0.95)


@pytest.mark.parametrize("mechanism", ["gaussian", "laplace"])
def test_measure__finds_too_little_noise_and_too_long_contributions_and_nothing_else(mechanism):
    generator = np.random.default_rng(3)
    sums = generator.normal(0, 0.3, (40, 300))

    def alarm(noise: float, contribution: float, confidence: float = 0.99) -> bool:
        draw = generator.normal if mechanism == "gaussian" else generator.laplace
        seen = contribution * sums + draw(0, noise, sums.shape)
        return measure(seen, sums, mechanism, 1.4, confidence).contradicts_claim

    assert sum(alarm(1.4, 1.0, 0.8) for _ in range(200)) <= 55  # 40 are expected at most; 55 is 2.6 deviations more
    assert all(alarm(0.9 * 1.4, 1.0) for _ in range(10))
    assert all(alarm(0.0, 1.0) for _ in range(2))
    assert all(alarm(1.4, 2.0) for _ in range(10))
    assert not any(alarm(2.8, 0.5) for _ in range(10))  # more private than claimed


def test_spread__chooses_what_overlaps_least():
    pulls = np.eye(6)[[0, 0, 1, 1, 2, 3]] + 0.01
    assert sorted(spread(pulls, 4)) in ([0, 2, 4, 5], [0, 3, 4, 5])


@pytest.fixture
def short_scenes(monkeypatch):
    """Scenes of fewer sites, for what shows all the same."""
    short = {"crowd": 120, "sampled": 250, "alone": 150}
    monkeypatch.setattr(one_run, "SCENES", {name: replace(scene, sites=short[name]) for name, scene in SCENES.items()})
    monkeypatch.setattr(one_run, "STUDY_SITES", 10)


@pytest.mark.slow
@pytest.mark.parametrize("scene", scenes_of(STUDY))
def test_audit_scene__quiet_on_the_code_as_it_is(scene, short_scenes):
    found = audit_scene(STUDY, scene, 0.99, seed=1)
    assert not found.caught
    assert found.lower_bound < found.claimed
    assert found.claimed == study_epsilon(scene_terms(STUDY, scene), 1).pld


@pytest.mark.slow
def test_audit_scene__half_the_noise_shows_to_guessers_and_to_the_measurement():
    with FAULTS["half the noise"].plant(), unwatched():
        found = audit_scene(STUDY, "crowd", 0.98, seed=1)
    assert found.outguessed
    assert found.measurement.noise_at_most == pytest.approx(found.measurement.noise_claimed / 2, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [name for name, fault in FAULTS.items() if fault.scene not in (None, "rounds")])
def test_audit_scene__catches_planted_fault(fault, short_scenes):
    """By guesses and measurement alone; by releases: test_releases.py; by the oracle: tests/training/test_oracle.py."""
    with FAULTS[fault].plant(), unwatched():
        assert audit_scene(STUDY, FAULTS[fault].scene, 0.98, seed=1).caught


@pytest.mark.parametrize(
    "privacy",
    [{"mechanism": "laplace"}, {"clipping": "adaptive"}, {"unit": "example", "examples_per_patient": 50}],
    ids=["laplace", "adaptive", "example"],
)
def test_audit_scene__measures_every_kind_of_study(privacy, monkeypatch):
    monkeypatch.setattr(one_run, "SCENES", {"crowd": replace(SCENES["crowd"], sites=12)})
    study = STUDY.model_copy(update={"privacy": PrivacyTerms.model_validate(privacy)})
    sound = audit_scene(study, "crowd", 0.99, seed=1).measurement
    assert sound.noise_claimed <= sound.noise_at_most < 1.1 * sound.noise_claimed
    with FAULTS["half the noise"].plant(), unwatched():
        assert audit_scene(study, "crowd", 0.99, seed=1).measurement.contradicts_claim


def test_audit__page_and_table_say_what_the_json_says(monkeypatch):
    shown = {"crowd": 12, "sampled": 30, "alone": 30}
    monkeypatch.setattr(one_run, "SCENES", {name: replace(scene, sites=shown[name]) for name, scene in SCENES.items()})
    monkeypatch.setattr(one_run, "STUDY_SITES", 3)
    monkeypatch.setattr(audit_module, "FAULTS", {"no noise": FAULTS["no noise"]})
    attacked = {"without privacy": _OPEN, "as in the study": _ATTACKED}
    monkeypatch.setattr(audit_module, "attack_models", lambda study, seed, model: attacked[model])
    said = []
    report = audit(STUDY, self_check=True, membership=True, on_part=said.append)
    assert sorted(said) == sorted([*SCENES, "study", "rounds", "no noise", "no noise (oracle)", *attacked])
    content = json.loads(to_json(report))
    jsonschema.validate(content, report_schema("audit"))
    paths = shown_values(render(report, "audit.html", audit_figures(report)), content)
    assert {"claimed_epsilon", "epsilon_lower_bound", "confidence", "membership.sentence"} <= paths
    assert all(f"scenes.{number}.epsilon_lower_bound" in paths for number in range(4))
    assert {"faults.0.fault", "faults.0.measurement.noise_at_most", "faults.1.refusal"} <= paths
    assert (report.scenes[-1].scene, report.scenes[-1].refusal) == ("rounds", None)
    assert report.faults[1].shown_by == ("oracle",)
    assert "noise does not depend" in as_text(report)
    assert report.faults[0].shown_by == ("guesses", "measurement")
    assert f"{'no noise':<27}{'yes':>12}{'yes':>12}{'-':>12}{'yes':>12}\n" in as_text(report)
    assert report.passes
    assert report.claimed_epsilon == study_epsilon(scene_terms(STUDY, "study"), 1).pld
    text = as_text(report)
    assert max(map(len, text.splitlines()[:-1])) <= 80  # all but the closing sentence
    assert "caught" in text


def test_faults__leave_nothing_behind():
    def names():
        places = (dp_sgd, dp_sgd.UnitDPOptimizer, units, UnitCopies)
        return [dict(vars(place)) for place in places]

    before = names()
    for plant in (unwatched, *(fault.plant for fault in FAULTS.values())):
        with plant():
            assert names() != before
        assert names() == before


def test_audit__says_the_same_in_processes_side_by_side(monkeypatch):
    fault = "division by the drawn batch"
    monkeypatch.setattr(audit_module, "scenes_of", lambda study: ("alone",))
    monkeypatch.setattr(audit_module, "FAULTS", {fault: FAULTS[fault]})
    alone, together = (audit(STUDY, self_check=True, threads=threads) for threads in (1, 2))
    assert alone == together
    assert (alone.scenes[0].contradicts_claim, alone.faults[0].contradicts_claim) == (False, True)
