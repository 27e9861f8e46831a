from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from fedcall.privacy.mechanism.noise import StepContext
from fedcall.privacy.mechanism.sampling import sample_examples, sample_patients

SECRET = bytes(range(32))
PATIENTS = [f"P{number}" for number in range(400)]


def context(step):
    return StepContext("study", "north", 1, step, "inputs")


@pytest.mark.parametrize("rate", [0.05, 0.25, 0.9])
def test_sample_patients__is_poisson_at_the_rate(rate):
    """Invariant 3: every patient's coin is independent and shows heads at the accounted rate. Keys are fixed."""
    drawn = np.array([sample_patients(SECRET, context(step), PATIENTS, rate) for step in range(60)])
    assert stats.binomtest(int(drawn.sum()), drawn.size, rate).pvalue > 0.01
    # The size of a draw varies as a binomial does: a sampler of fixed batch size would show none of it.
    sizes = drawn.sum(axis=1)
    ratio = sizes.var(ddof=1) / (len(PATIENTS) * rate * (1 - rate))
    assert stats.chi2.ppf(0.001, 59) / 59 < ratio < stats.chi2.ppf(0.999, 59) / 59
    # Steps are independent: neighbouring steps agree as often as independent coins do.
    agree = (drawn[1:] == drawn[:-1]).sum()
    assert stats.binomtest(int(agree), drawn[1:].size, rate**2 + (1 - rate) ** 2).pvalue > 0.01


@pytest.mark.parametrize(
    ("secret", "changed"),
    [
        (bytes(range(1, 33)), {}),
        (SECRET, {"study": "another"}),
        (SECRET, {"site": "south"}),
        (SECRET, {"round": 2}),
        (SECRET, {"step": 2}),
        (SECRET, {"inputs": "others"}),
    ],
    ids=["secret", "study", "site", "round", "step", "inputs"],
)
def test_sample_patients__nobody_without_the_secret_and_the_step_knows_who_is_drawn(secret, changed):
    patients = [f"P{number}" for number in range(4000)]
    drawn = sample_patients(SECRET, context(1), patients, 0.5)
    other = sample_patients(secret, replace(context(1), **changed), patients, 0.5)
    assert stats.binomtest(int((drawn == other).sum()), len(drawn), 0.5).pvalue > 0.001
    examples = [
        sample_examples(*key, "P1", 4000, 0.5)
        for key in ((SECRET, context(1)), (secret, replace(context(1), **changed)))
    ]
    assert stats.binomtest(int((examples[0] == examples[1]).sum()), 4000, 0.5).pvalue > 0.001


def test_sample_patients__does_not_depend_on_who_else_is_listed():
    everyone = dict(zip(PATIENTS, sample_patients(SECRET, context(1), PATIENTS, 0.5), strict=True))
    fewer = PATIENTS[::-3]
    np.testing.assert_array_equal(
        sample_patients(SECRET, context(1), fewer, 0.5), [everyone[patient] for patient in fewer]
    )


def test_sample_patients__rate_one_takes_everyone_and_an_empty_cohort_is_fine():
    assert sample_patients(SECRET, context(1), PATIENTS, 1.0).all()
    assert sample_patients(SECRET, context(1), [], 0.5).shape == (0,)


def test_sample_patients__refuses_a_patient_listed_twice_and_a_wrong_rate():
    with pytest.raises(ValueError, match="twice"):
        sample_patients(SECRET, context(1), ["P1", "P1"], 0.5)
    with pytest.raises(ValueError, match=r"sampling rate must be in \(0, 1\]"):
        sample_patients(SECRET, context(1), ["P1"], 1.5)


def test_sample_examples__is_poisson_at_the_rate_and_stable_when_examples_are_added():
    drawn = sample_examples(SECRET, context(1), "P1", 500_000, 0.02)
    assert stats.binomtest(int(drawn.sum()), len(drawn), 0.02).pvalue > 0.01
    np.testing.assert_array_equal(drawn[:100], sample_examples(SECRET, context(1), "P1", 100, 0.02))
    other = sample_examples(SECRET, context(1), "P2", 500_000, 0.02)
    assert stats.binomtest(int((drawn & other).sum()), len(drawn), 0.02**2).pvalue > 0.01
