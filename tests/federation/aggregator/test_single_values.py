"""A few values too large for noise: found at 10 standard deviations, and honest sites are left alone."""

import os

import numpy as np
import pytest

from fedcall.federation.aggregator.outliers import Screened, find_outliers, largest_noise
from fedcall.federation.aggregator.single_values import find_single_values, medians_of_others
from fedcall.weights import write_weights
from made_updates import RATIO, Z, make_round

MOST_ALARMS = 1e-4


def put_out(updates, stds, mechanism="gaussian"):
    limit = largest_noise(Z, updates.shape[1], mechanism)
    found = find_single_values(iter([updates]), stds, limit, RATIO)
    return None if found is None else found[0]


@pytest.mark.parametrize("sites", [3, 4, 7])
def test_medians_of_others__are_medians_of_the_others(sites):
    rows = np.random.default_rng(sites).normal(size=(sites, 50)).round(1)  # with ties
    expected = [np.median(np.delete(rows, site, axis=0), axis=0) for site in range(sites)]
    assert np.allclose(medians_of_others(rows), expected)


@pytest.mark.parametrize("sites", [3, 5, 12])
@pytest.mark.parametrize("d", [342, 2500])
def test_find_single_values__ten_sigma_on_three_weights(sites, d):
    generator = np.random.default_rng(1)
    found = []
    for _ in range(100):
        updates = generator.normal(size=(sites, d))
        updates[-1, generator.choice(d, 3, replace=False)] += 10
        found.append(put_out(updates, np.ones(sites)))
    assert set(found) <= {sites - 1, None}
    assert found.count(sites - 1) >= 97


@pytest.mark.parametrize("mechanism", ["gaussian", "laplace"])
def test_find_single_values__honest_sites_are_left_alone(mechanism):
    """At most 1 in 10,000 honest updates; FEDCALL_OUTLIER_ROUNDS=20000 for the figure in docs/threat-model.md."""
    rounds = int(os.environ.get("FEDCALL_OUTLIER_ROUNDS", "1000"))
    generator = np.random.default_rng(11)
    alarms = sites = 0
    for _ in range(rounds):
        count = int(generator.integers(3, 11))
        stds = generator.choice([1.0, 1.0, 2.0, 8.0], count)
        d = int(generator.choice([342, 500, 2000]))
        if mechanism == "gaussian":
            strength = float(generator.choice([0.0, 0.1, 0.3, 1.0, 3.0]))
            updates = make_round(generator, stds, d, strength, agreement=generator.uniform(0, 1))
        else:
            updates = generator.laplace(scale=np.sqrt(0.5), size=(count, d)) * stds[:, None]
        alarms += put_out(updates, stds, mechanism) is not None
        sites += count
    print(f"{alarms} alarms in {sites} honest updates of {rounds} rounds, {mechanism}")
    assert alarms <= MOST_ALARMS * sites


def test_find_single_values__a_signal_in_few_weights_that_all_have_is_nobodys_fault():
    generator = np.random.default_rng(3)
    for _ in range(50):
        updates = generator.normal(size=(5, 500))
        updates[:, :3] += 30 * np.exp(0.3 * generator.normal(size=(5, 1)))
        assert put_out(updates, np.ones(5)) is None


def test_find_outliers__a_few_values_on_disk_are_found_after_the_screen(tmp_path):
    generator = np.random.default_rng(4)
    screened = []
    for site in ("a", "b", "c"):
        values = generator.normal(size=500).astype(np.float32)
        if site == "b":
            values[[3, 99, 480]] += 12
        write_weights(tmp_path / site, {"head.weight": values}, {})
        screened.append(Screened(site, tmp_path / site, 1.0))
    found = find_outliers(screened, Z, RATIO, "gaussian")
    assert [one.site for one in found] == ["b"]
    assert "single values" in found[0].sentence
