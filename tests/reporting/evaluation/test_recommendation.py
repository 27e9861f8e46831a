"""Which model to use: a gain seen on people and regions that nobody trained on, and nothing less."""

from dataclasses import replace

import pytest

from fedcall.reporting.evaluation.recommendation import LEAST_PEOPLE, recommend
from made_concordances import made_results, no_regions

# The study config/ceu/no_noise.yaml on 18 unseen people in an unseen region, in variants right of 200: F1 .697 before,
# .684 after, 14 of 18 people worse.
CEU_BEFORE = [139, 140, 138, 141, 137, 139, 142, 140, 138, 139, 141, 140, 137, 139, 140, 138, 141, 140]
CEU_CHANGE = [-4, -5, -2, -6, -3, 1, -4, -2, -7, -3, 2, -4, -5, 1, -2, -3, -4, 2]
CEU_AFTER = [before + change for before, change in zip(CEU_BEFORE, CEU_CHANGE, strict=True)]


def test_recommend__the_ceu_study_that_made_people_worse_keeps_the_first_model() -> None:
    unseen = made_results(CEU_BEFORE, CEU_AFTER)
    same = made_results([196] * 2, [196] * 2)  # the two halves of NA12878, which did not change
    gate = recommend(same, unseen, fresh=True)
    assert gate.decision == "worse"
    assert gate.model == "initial.safetensors"
    assert gate.difference.value == pytest.approx(-0.013, abs=0.001)
    assert gate.difference.high is not None
    assert gate.difference.high < 0
    assert gate.verdict.startswith("Keep initial.safetensors: the jointly trained model is worse. On 18 public people")


def test_recommend__no_change_is_no_reason_to_use_the_new_model() -> None:
    people = made_results([196] * 8, [196] * 8)
    for unseen in (people, ()):
        gate = recommend(people, unseen, fresh=True)
        assert (gate.decision, gate.model, gate.passes) == ("no-difference", "initial.safetensors", False)
        assert gate.headline == "Keep initial.safetensors: no difference was seen"


def test_judge__gain_that_may_be_chance_keeps_the_first_model() -> None:
    up_and_down = made_results([140] * 8, [150, 134, 148, 133, 149, 135, 146, 137])
    gate = recommend(up_and_down, up_and_down, fresh=False)
    assert gate.difference.value is not None
    assert gate.difference.value > 0
    assert gate.decision == "no-difference"


def test_judge__gain_on_unseen_people_and_regions_is_used() -> None:
    gain = made_results(CEU_BEFORE, [before + 8 for before in CEU_BEFORE])
    gate = recommend(gain, gain, fresh=False)
    assert (gate.decision, gate.model, gate.passes) == ("use", "final.safetensors", True)
    assert gate.on_unseen_regions
    assert gate.regions_bases == 18 * 20_000
    assert "18 public people who trained no model, in regions that nobody trained on" in gate.verdict


def test_judge__gain_on_trained_regions_only_is_no_reason_to_use_the_new_model() -> None:
    gain = made_results(CEU_BEFORE, [before + 8 for before in CEU_BEFORE])
    nowhere = [replace(result, concordance=no_regions()) for result in gain]
    for unseen in ((), nowhere):
        gate = recommend(gain, unseen, fresh=False)
        assert (gate.decision, gate.model, gate.passes) == ("cannot-tell", None, None)
        assert not gate.on_unseen_regions
        assert "a gain was seen, but not on regions that nobody trained on" in gate.verdict
        assert "agree on evaluation.regions" in gate.verdict


def test_judge__harm_on_trained_regions_is_harm() -> None:
    assert recommend(made_results(CEU_BEFORE, CEU_AFTER), (), fresh=False).decision == "worse"


@pytest.mark.parametrize("people", [1, 2, LEAST_PEOPLE - 1])
def test_judge__too_few_people_are_said_to_be_too_few(people: int) -> None:
    gain = made_results([140] * people, [160] * people)
    gate = recommend(gain, gain, fresh=False)
    assert (gate.decision, gate.model) == ("cannot-tell", None)
    assert f"{people} {'person is' if people == 1 else 'people are'} too few" in gate.verdict
    assert gate.verdict.endswith("Until it can be told, keep initial.safetensors.")


def test_judge__as_many_people_as_can_tell_do() -> None:
    gain = made_results([140] * LEAST_PEOPLE, [160] * LEAST_PEOPLE)
    assert recommend(gain, gain, fresh=False).decision == "use"


def test_judge__nobody_to_judge_on_is_said() -> None:
    gate = recommend((), (), fresh=False)
    assert (gate.decision, gate.model, gate.people) == ("cannot-tell", None, 0)
    assert "no held-out public people" in gate.verdict
