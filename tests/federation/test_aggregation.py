"""Averages of updates: each strategy against its definition, independent of the order of arrival."""

import numpy as np
import pytest

from fedcall.federation.aggregation import Contribution, next_global
from fedcall.federation.study import AggregationTerms
from fedcall.weights import write_weights

RNG = np.random.default_rng(5)
BASE = {"head.weight": RNG.normal(size=(2, 3)).astype(np.float32), "stem.weight": np.ones(4, np.float32)}
PATIENTS = {"north": 10, "south": 30, "west": 40, "east": 20, "coast": 50}
UPDATES = {site: {"head.weight": RNG.normal(size=(2, 3)).astype(np.float32)} for site in PATIENTS}
STACKED = np.stack([UPDATES[site]["head.weight"].astype(np.float64) for site in sorted(UPDATES)])
WEIGHTS = np.array([PATIENTS[site] for site in sorted(UPDATES)], float)

EXPECTED = {
    "fedavg": np.average(STACKED, axis=0, weights=WEIGHTS),
    "fedmedian": np.median(STACKED, axis=0),
    "fedtrimmedavg": np.sort(STACKED, axis=0)[1:-1].mean(axis=0),  # beta 0.2 of five sites: one from each end
}


def contributions(folder):
    for site, update in UPDATES.items():
        write_weights(folder / f"{site}.safetensors", update, {})
    return [Contribution(site=site, update=folder / f"{site}.safetensors", patients=PATIENTS[site]) for site in UPDATES]


@pytest.mark.parametrize("strategy", EXPECTED)
def test_next_global__is_the_base_plus_the_average(tmp_path, strategy):
    terms = AggregationTerms(strategy=strategy, server_learning_rate=0.5)
    found = next_global(BASE, contributions(tmp_path), terms)
    np.testing.assert_allclose(
        found["head.weight"], BASE["head.weight"] + 0.5 * EXPECTED[strategy], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(found["stem.weight"], BASE["stem.weight"])
    assert found["head.weight"].dtype == np.float32


@pytest.mark.parametrize("strategy", EXPECTED)
def test_next_global__order_of_arrival_changes_no_bit(tmp_path, strategy):
    terms = AggregationTerms(strategy=strategy)
    arrived = contributions(tmp_path)
    first, second = next_global(BASE, arrived, terms), next_global(BASE, arrived[::-1], terms)
    np.testing.assert_array_equal(first["head.weight"], second["head.weight"])


def test_next_global__nobody_answered(tmp_path):
    found = next_global(BASE, [], AggregationTerms())
    for name, tensor in BASE.items():
        np.testing.assert_array_equal(found[name], tensor)
