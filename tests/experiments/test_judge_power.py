"""How many held-out patients the private judge needs: what a simulation must agree with."""

import pytest

from fedcall.errors import FedcallError
from fedcall.experiments.judge_power import Question, as_text, chance_to_see, paired_differences, power_rows
from fedcall.study.evaluation import EvaluationTerms
from made_concordances import made_concordance


def test_power_rows__less_privacy_needs_fewer_people() -> None:
    question = Question(gain=0.01, spread=0.015, sites=4)
    rows = power_rows(question, [0.3, 1.0], [0.05])
    assert all(row.people is not None and row.people % 4 == 0 for row in rows)
    assert rows[0].people > 1.3 * rows[1].people  # type: ignore[operator]
    for row in rows:
        terms = EvaluationTerms(epsilon=row.epsilon, clip=row.clip)
        assert chance_to_see(question, terms, row.people // 4) >= 0.8  # type: ignore[operator]
        assert chance_to_see(question, terms, row.people // 8) < 0.8  # type: ignore[operator]
    assert "80% chance, at 4 sites" in as_text(question, rows)


def test_chance_to_see__no_gain_is_seen_as_seldom_as_the_interval_says() -> None:
    chance = chance_to_see(Question(gain=0.0, spread=0.05, sites=2), EvaluationTerms(epsilon=0.5), 100)
    assert chance <= 0.025 + 0.01


def test_paired_differences__of_real_people(tmp_path) -> None:
    paths = {}
    for caller, right in (("initial", 140), ("final", 144)):
        paths[caller] = tmp_path / caller / "h0.json"
        paths[caller].parent.mkdir()
        paths[caller].write_text(made_concordance(right).model_dump_json())
    assert paired_differences([paths["initial"]], [paths["final"]]) == (pytest.approx(0.02),)
    with pytest.raises(FedcallError, match="'h0': give the concordances of both models"):
        paired_differences([paths["initial"]], [])
