"""What a study costs, from its terms: solved for each term in turn, for groups, and drawn."""

import pytest

from fedcall.privacy.accounting.epsilon import group_epsilon, study_epsilon
from fedcall.privacy.accounting.plan import as_text, plan_study
from fedcall.privacy.accounting.plan_plot import draw_plan
from fedcall.privacy.accounting.solving import rounds_for, sampling_rate_for
from fedcall.privacy.events import round_event
from fedcall.privacy.mechanism.pooling import Pool
from fedcall.privacy.terms import PrivacyTerms

TERMS = PrivacyTerms(noise_multiplier=2.0, sampling_rate=0.2, steps_per_round=5)


def test_plan_study__a_solved_term_costs_the_target_and_no_less():
    plan = plan_study("s", TERMS, 3, target_epsilon=1.5)
    for key, value, worse in (
        ("noise_multiplier", plan.noise_multiplier_for_target, 0.99),
        ("sampling_rate", plan.sampling_rate_for_target, 1.01),
    ):
        assert study_epsilon(TERMS.model_copy(update={key: value}), 3).pld <= 1.5
        assert study_epsilon(TERMS.model_copy(update={key: value * worse}), 3).pld > 1.5
    rounds = plan.rounds_for_target
    assert study_epsilon(TERMS, rounds).pld <= 1.5 < study_epsilon(TERMS, rounds + 1).pld


def test_plan_study__always_tells_families_and_patients_by_rows():
    terms = TERMS.model_copy(update={"unit": "example", "examples_per_patient": 10, "noise_multiplier": 20.0})
    plan = plan_study("s", terms, 2, rows_of_patients=[5, 40])
    history = [(round_event(terms), 2)]
    assert [(one.units, one.pld) for one in plan.families] == [
        (size, group_epsilon(history, terms.delta, size).pld) for size in (2, 3)
    ]
    assert [one.units for one in plan.patients_by_rows] == [5, 40]
    costs = [plan.total.pld, *(one.pld for one in plan.families), *(one.pld for one in plan.patients_by_rows)]
    assert costs == sorted(costs)


def test_plan_study__a_cap_on_the_broken_promise_ends_the_study_as_early_as_the_ledger_does():
    shared = {"noise": "pooled", "noise_multiplier": 3.14, "sampling_rate": 0.5, "steps_per_round": 1, "delta": 1e-3}
    terms, pool = TERMS.model_copy(update={**shared, "max_epsilon": 1.5}), Pool(10, 0)
    capped = terms.model_copy(update={"max_epsilon_if_broken": 4.0})
    assert plan_study("s", terms, 5, pool=pool).rounds_within_cap == 5
    plan = plan_study("s", capped, 5, pool=pool)
    alone = terms.model_copy(update={"noise_multiplier": 3.14 / 10**0.5})
    assert study_epsilon(alone, plan.rounds_within_cap).pld <= 4 < study_epsilon(alone, plan.rounds_within_cap + 1).pld
    assert plan.rounds_within_cap < 5
    broken = f"4 if the promise of pooled noise is broken (below): {plan.rounds_within_cap} of 5 rounds fit"
    assert f"cap 1.5; {broken}" in as_text(plan)


def test_solving__says_what_cannot_be_reached():
    with pytest.raises(ValueError, match="no sampling rate"):
        sampling_rate_for(TERMS.model_copy(update={"noise_multiplier": 0.01}), 1000, 1e-4)
    assert rounds_for(TERMS, 1e-3) == 0
    assert sampling_rate_for(TERMS, 1, 50.0) == 1.0


@pytest.mark.parametrize(("name", "magic"), [("plan.svg", b"<?xml"), ("plan.png", b"\x89PNG")])
def test_draw_plan__writes_a_picture_with_both_accountants(tmp_path, name, magic):
    draw_plan(plan_study("s", TERMS, 3), tmp_path / name)
    content = (tmp_path / name).read_bytes()
    assert content.startswith(magic)
    assert [path.name for path in tmp_path.iterdir()] == [name]
