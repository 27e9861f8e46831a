"""What releases of several steps and rounds show from outside: missing, one-sided, repeated and old noise."""

import numpy as np
import pytest

from fedcall.experiments.faults import FAULTS, unwatched
from fedcall.experiments.releases import find_fault
from fedcall.experiments.watched import released_fault
from fedcall.study.terms import Study

SIZES = {"trunk": 6000, "bias": 8, "head": 600}
GAUSSIAN = Study.model_validate({"name": "seen", "rounds": 2, "privacy": {"noise_multiplier": 2.0}})
LAPLACE = Study.model_validate({"name": "seen", "privacy": {"noise_multiplier": 2.0, "mechanism": "laplace"}})
SHOWN = [name for name, fault in FAULTS.items() if fault.scene == "rounds"]


@pytest.mark.parametrize("study", [GAUSSIAN, LAPLACE], ids=["gaussian", "laplace"])
def test_find_fault__is_quiet_on_sound_rounds(study):
    assert released_fault(study, 1) is None


@pytest.mark.parametrize("fault", SHOWN)
def test_find_fault__sees_each_fault_that_releases_show(fault):
    with FAULTS[fault].plant(), unwatched():
        assert released_fault(GAUSSIAN, 1) is not None


def test_faults__eleven_of_twenty_show_from_outside():
    assert len(FAULTS) == 20
    assert sum(fault.scene is not None for fault in FAULTS.values()) == 11
    assert len(SHOWN) == 6


@pytest.mark.parametrize("mechanism", ["gaussian", "laplace"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda steps: np.concatenate([steps[:, :6000], np.zeros((4, 608))], axis=1), "missing in tensor 'head'"),
        (lambda steps: 0.8 * steps, "missing in tensor 'trunk'"),
        (lambda steps: np.abs(steps), "one sign"),
        (lambda steps: np.resize(steps[:, :2000].T, (6608, 4)).T, "repeats itself"),
        (lambda steps: steps[[0, 1, 2, 0]], "step 4: the noise is that of an earlier step"),
    ],
)
def test_find_fault__under_the_longest_sums_there_can_be(mechanism, change, message):
    generator = np.random.default_rng(1)
    draw = generator.normal if mechanism == "gaussian" else generator.laplace
    noise, direction = draw(0, 1.4, (4, 6608)), generator.normal(size=6608)
    sums = 12 * direction / np.linalg.norm(direction)  # the same in every step
    assert find_fault(noise + sums, SIZES, mechanism, 1.4, 12) is None
    assert message in str(find_fault(change(noise) + 0.01 * sums, SIZES, mechanism, 1.4, 12))
