"""The membership attack: its figures are what they are called, and it finds members where there are some to find."""

import math

import numpy as np
import pytest

from fedcall.experiments import attack as attack_module
from fedcall.experiments.attack import (
    ATTACKED,
    area_under_curve,
    attack_models,
    attack_report,
    calibrated_scores,
    most_named,
    share_named,
    share_right,
    with_privacy,
    without_privacy,
)
from fedcall.privacy.accounting.epsilon import study_epsilon
from fedcall.privacy.accounting.membership import membership
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.terms import Study

STUDY = Study.model_validate(
    {"name": "attacked", "rounds": 3, "privacy": {"noise_multiplier": 4.2, "steps_per_round": 20, "delta": 1e-3}}
)


def test_figures__of_a_perfect_attacker_a_guesser_and_a_blind_one():
    members = np.tile([True, False], (4, 50))
    perfect, blind = members.astype(float), np.zeros(members.shape)
    assert (area_under_curve(perfect, members), share_right(perfect, members)) == (1.0, 1.0)
    assert share_named(perfect, members) == 1.0
    assert (area_under_curve(blind, members), share_right(blind, members)) == (0.5, 0.5)
    assert share_named(blind, members) == 0.0
    guesser = np.random.default_rng(1).random((400, 100))
    halves = np.tile(members, (100, 1))
    assert area_under_curve(guesser, halves) == pytest.approx(0.5, abs=0.01)
    assert share_named(guesser, halves) == pytest.approx(0.05, abs=0.01)


def test_calibrated_scores__are_high_where_a_loss_is_low_for_this_patient():
    hard_and_easy = np.array([[5.0, 0.1], [5.0, 0.1], [5.0, 0.1]])
    assert calibrated_scores(hard_and_easy) == pytest.approx(0)
    hard_and_easy[0, 0] = 4.0
    assert calibrated_scores(hard_and_easy)[0, 0] == pytest.approx(1.0)
    assert (calibrated_scores(hard_and_easy)[1:, 0] < 0).all()


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0])
def test_most_named__permits_no_attacker_beyond_the_most_accurate_one(epsilon):
    alarms = np.linspace(0, 1, 2001)
    best = max((1 + most_named(epsilon, 1e-3, alarm) - alarm) / 2 for alarm in alarms)
    assert best == pytest.approx(membership(epsilon, 1e-3, epsilon).accuracy, abs=1e-3)
    assert most_named(epsilon, 1e-3, 0.05) <= math.exp(epsilon) * 0.05 + 1e-3


def test_with_privacy__keeps_the_epsilon_of_a_study_that_is_short_enough():
    assert study_epsilon(with_privacy(STUDY).privacy, with_privacy(STUDY).rounds) == study_epsilon(STUDY.privacy, 3)
    long = STUDY.model_copy(update={"rounds": 100})
    assert with_privacy(long).rounds * with_privacy(long).privacy.steps_per_round == attack_module.STEPS
    adaptive = STUDY.model_copy(update={"privacy": PrivacyTerms.model_validate({"clipping": "adaptive"})})
    assert with_privacy(adaptive).privacy.clipping == "fixed"
    assert without_privacy(STUDY).privacy.noise_multiplier == 0


@pytest.mark.slow
def test_attack__finds_members_of_models_without_privacy(monkeypatch):
    # With 5 models of 8 people the interval says nothing: its bound was below a half for two seeds of five.
    people = {"sites": {"one": 16}, "region_length": 5_000}
    monkeypatch.setattr(attack_module, "COHORT", attack_module.COHORT.model_copy(update=people))
    monkeypatch.setattr(attack_module, "MODELS", 8)
    monkeypatch.setattr(attack_module, "STEPS", 30)
    monkeypatch.setattr(attack_module, "REPLICATES", 50)
    found = attack_report(*(attack_models(STUDY, 1, attacked) for attacked in ATTACKED))
    assert found.without_privacy.auc.value > 0.65
    assert found.without_privacy.accuracy.low > 0.5
    assert found.without_privacy.most_accuracy is None
    assert found.as_in_study.accuracy.value < found.as_in_study.most_accuracy
    assert found.as_in_study.epsilon == study_epsilon(with_privacy(STUDY).privacy, with_privacy(STUDY).rounds).pld
    assert "guessing is right in 50" in found.sentence
