"""The experiment behind the figures of pooled noise: the same patients in few or many hospitals."""

import json

import pytest

from example_patients import trained_model
from fedcall.errors import FedcallError
from fedcall.experiments.pooling import PoolingPeople, as_text, pooled_cases, pooled_points
from fedcall.model.caller import weights_of
from fedcall.study.terms import Study
from forked import run_forked
from made_patients import patient

TERMS = Study.model_validate(
    {
        "name": "spread",
        "rounds": 1,
        "model": {"trainable": "head"},
        "privacy": {"steps_per_round": 2, "rows_per_unit": 8, "sampling_rate": 0.5, "clip_norm": 0.5, "delta": 1e-2},
    }
)
PEOPLE = PoolingPeople(
    {f"p{seed}": patient(seed) for seed in range(6)}, {f"h{seed}": patient(90 + seed) for seed in range(2)}
)


def test_pooled_cases__one_hospital_has_nobody_to_pool_with():
    cases = list(pooled_cases([1, 3], [1.0], ["delta"]))
    assert cases == [(1, "own", "delta", 1.0), (3, "own", "delta", 1.0), (3, "pooled", "delta", 1.0)]
    assert list(pooled_cases([1, 3], [1.0], ["delta"], ["pooled"])) == [cases[0], cases[2]]


def test_pooled_points__own_and_pooled_noise_stand_at_the_same_epsilon():
    cases = [(3, "own", "gradient", 4.0), (3, "pooled", "gradient", 4.0), (3, "pooled", "delta", 4.0)]
    quick = {"contribution": "delta", "local_steps": 2, "steps_per_round": 1}
    deltas = TERMS.model_copy(update={"rounds": 2, "privacy": TERMS.privacy.model_copy(update=quick)})
    seen = []
    points = pooled_points(TERMS, weights_of(trained_model()), PEOPLE, cases, [1, 2], seen.append, deltas)
    assert seen == points
    assert [point.sums for point in points] == [2, 2, 2, 2, 2, 2]
    assert len({point.noise_multiplier for point in points}) == 1  # two sums cost the same, whatever is summed
    assert all(0 <= point.f1 <= 1 for point in points)
    assert pooled_points(TERMS, weights_of(trained_model()), PEOPLE, cases[:1], [2]) == points[1:2]
    with pytest.raises(FedcallError, match="'delta' expected"):
        pooled_points(TERMS, weights_of(trained_model()), PEOPLE, cases[2:], [1], deltas=TERMS)
    averaging = TERMS.training.model_copy(update={"iterate_averaging": 0.9})
    of_example = {"unit": "example", "examples_per_patient": 20, "rows_per_unit": 1, "delta": 1e-3}
    example = TERMS.privacy.model_copy(update=of_example)
    terms = TERMS.model_copy(update={"training": averaging, "privacy": example})
    [of_examples] = pooled_points(terms, weights_of(trained_model()), PEOPLE, cases[1:2], [1])
    assert of_examples.sums == 2
    lines = as_text(points).splitlines()
    assert len(lines) == 1 + len(cases)
    assert "(2 seeds)" in lines[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--contribution", "updates"], "--contribution updates: gradient or delta expected"),
        (["--noise", "shared"], "--noise shared: own or pooled expected"),
        (["--epsilon", "0"], "--epsilon 0: must be above 0"),
    ],
)
def test_experiments_pooling__bad_options_are_one_line(tmp_path, options, message):
    paths = [f"--{name}={tmp_path / name}" for name in ("study", "samples", "results", "initial")]
    answer = run_forked("fedcall", "experiments", "pooling", *paths, *options)
    assert (answer.returncode, answer.stderr) == (2, f"fedcall: {message}\n")
    assert json.dumps(answer.stdout) == '""'
