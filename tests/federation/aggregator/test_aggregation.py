"""Averages of updates: each strategy against its definition, and against one site that lies."""

import numpy as np
import pytest
from pydantic import ValidationError

from fedcall.errors import FedcallError
from fedcall.federation.aggregator.aggregation import Contribution, Moments, next_global
from fedcall.study.aggregation_terms import AggregationTerms
from fedcall.weights import write_weights

RNG = np.random.default_rng(5)
BASE = {"head.weight": RNG.normal(size=(2, 3)).astype(np.float32), "stem.weight": np.ones(4, np.float32)}
PATIENTS = {"north": 10, "south": 30, "west": 40, "east": 20, "coast": 50}
UPDATES = {site: {"head.weight": RNG.normal(size=(2, 3)).astype(np.float32)} for site in PATIENTS}
STACKED = np.stack([UPDATES[site]["head.weight"].astype(np.float64) for site in sorted(UPDATES)])
WEIGHTS = np.array([PATIENTS[site] for site in sorted(UPDATES)], float)
TERMS = {
    name: AggregationTerms.model_validate({"strategy": name, "minimum_sites": 5})
    for name in ("fedavg", "fedmedian", "fedtrimmedavg", "krum", "multikrum", "fedadam")
}


def krum_order() -> np.ndarray:
    """Sites by the sum of squared distances to their n − f − 2 = 2 nearest (Blanchard et al. 2017)."""
    distances = np.square(STACKED[:, None] - STACKED[None]).sum(axis=(2, 3))
    return np.argsort(np.sort(distances, axis=1)[:, 1:3].sum(axis=1))


def adam_step(average: np.ndarray) -> np.ndarray:
    """The first step of Adam, bias-corrected: about the sign of the average."""
    return 0.1 * np.sqrt(1 - 0.99) / (1 - 0.9) * 0.1 * average / (np.sqrt(0.01 * average**2) + 1e-3)


AVERAGE = np.average(STACKED, axis=0, weights=WEIGHTS)
EXPECTED = {
    "fedavg": AVERAGE,
    "fedmedian": np.median(STACKED, axis=0),
    "fedtrimmedavg": np.sort(STACKED, axis=0)[1:-1].mean(axis=0),  # a fifth of five sites: one from each end
    "krum": STACKED[krum_order()[0]],
    "multikrum": np.average(STACKED[krum_order()[:2]], axis=0, weights=WEIGHTS[krum_order()[:2]]),
    "fedadam": adam_step(AVERAGE),
}


def contributions(folder, updates=UPDATES, patients=PATIENTS):
    for site, update in updates.items():
        tensors = {name: tensor.astype(np.float32) for name, tensor in update.items()}
        write_weights(folder / f"{site}.safetensors", tensors, {})
    return [Contribution(site, folder / f"{site}.safetensors", patients[site]) for site in updates]


@pytest.mark.parametrize("strategy", EXPECTED)
def test_next_global__is_the_base_plus_the_step(tmp_path, strategy):
    found = next_global(BASE, contributions(tmp_path), TERMS[strategy]).tensors
    np.testing.assert_allclose(found["head.weight"], BASE["head.weight"] + EXPECTED[strategy], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found["stem.weight"], BASE["stem.weight"])
    assert found["head.weight"].dtype == np.float32


def test_next_global__server_learning_rate_scales_the_step(tmp_path):
    found = next_global(BASE, contributions(tmp_path), AggregationTerms(server_learning_rate=0.5)).tensors
    np.testing.assert_allclose(found["head.weight"], BASE["head.weight"] + 0.5 * AVERAGE, rtol=1e-5, atol=1e-6)


def test_next_global__follows_the_terms_of_its_strategy(tmp_path):
    """Other terms than Flower's own defaults, which a strategy takes if it is not told."""
    arrived = contributions(tmp_path)

    def step(**terms) -> np.ndarray:
        agreed = AggregationTerms.model_validate({"minimum_sites": 5, **terms})
        return next_global(BASE, arrived, agreed).tensors["head.weight"] - BASE["head.weight"]

    middle = np.sort(STACKED, axis=0)[2]
    np.testing.assert_allclose(step(strategy="fedtrimmedavg", trim=0.4), middle, rtol=1e-5, atol=1e-6)
    adam = {"eta": 0.2, "beta_1": 0.8, "beta_2": 0.95, "tau": 0.05}
    slope = 0.2 * np.sqrt(1 - 0.95) / (1 - 0.8)
    expected = slope * 0.2 * AVERAGE / (np.sqrt(0.05 * AVERAGE**2) + 0.05)
    np.testing.assert_allclose(step(strategy="fedadam", adam=adam), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("malicious", "chosen"), [(0, 7.1), (1, 7.2), (2, 8.3)])
def test_next_global__krum_counts_as_many_neighbours_as_may_be_honest(tmp_path, malicious, chosen):
    """The sum of squares to the 7 − f − 2 nearest is least at another site for each f (Blanchard et al. 2017)."""
    places = dict(zip("abcdefg", (1.2, 3.3, 4.2, 7.1, 7.2, 8.3, 9.4), strict=True))
    updates = {site: {"head.weight": np.full((2, 3), place)} for site, place in places.items()}
    terms = {"strategy": "krum", "krum": {"malicious_sites": malicious}, "minimum_sites": 7}
    arrived = contributions(tmp_path, updates, dict.fromkeys(places, 10))
    found = next_global(BASE, arrived, AggregationTerms.model_validate(terms)).tensors["head.weight"]
    np.testing.assert_allclose(found - BASE["head.weight"], chosen, rtol=1e-5)


@pytest.mark.parametrize("strategy", ["fedavg", "fedmedian", "fedadam"])
def test_next_global__large_models_come_in_pieces_that_cut_through_tensors(tmp_path, strategy):
    shapes = {"a": (3, 50_000), "b": (), "c": (0,), "d": (200_000,)}
    generator = np.random.default_rng(8)
    updates = {
        site: {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
        for site in PATIENTS
    }
    base = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    found = next_global(base, contributions(tmp_path, updates), TERMS[strategy]).tensors
    for name in shapes:
        stacked = np.stack([updates[site][name].astype(np.float64) for site in sorted(updates)])
        average = np.average(stacked, axis=0, weights=WEIGHTS)
        expected = {"fedavg": average, "fedmedian": np.median(stacked, axis=0), "fedadam": adam_step(average)}
        np.testing.assert_allclose(found[name], expected[strategy], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("harm", ["cut", "extended", "another model's"])
def test_next_global__update_that_was_changed_on_disk_is_named(tmp_path, harm):
    updates = contributions(tmp_path)
    path = updates[3].update
    if harm == "another model's":
        write_weights(path, {"head.weight": np.zeros((3, 2), np.float32)}, {})
    else:
        content = path.read_bytes()
        path.write_bytes(content[:-1] if harm == "cut" else content + b"\0\0\0\0")
    with pytest.raises(FedcallError, match=f"{path.name}.*restore it from your backup"):
        next_global(BASE, updates, TERMS["fedavg"])


@pytest.mark.parametrize("strategy", EXPECTED)
def test_next_global__order_of_arrival_changes_no_bit(tmp_path, strategy):
    """Not even where a sum depends on its order: 1e20 − 1e20 + 1 is 1, and 1 + 1e20 − 1e20 is 0."""
    updates = {site: {"head.weight": update["head.weight"].copy()} for site, update in UPDATES.items()}
    updates["coast"]["head.weight"][0, 0], updates["east"]["head.weight"][0, 0] = 1e20, -1e20
    arrived = contributions(tmp_path, updates, dict.fromkeys(PATIENTS, 10))
    first, second = (next_global(BASE, order, TERMS[strategy]).tensors for order in (arrived, arrived[::-1]))
    np.testing.assert_array_equal(first["head.weight"], second["head.weight"])


@pytest.mark.parametrize("strategy", EXPECTED)
def test_next_global__nobody_answered(tmp_path, strategy):
    moments = Moments({"head.weight": np.ones((2, 3))}, {"head.weight": np.ones((2, 3))}, 1)
    found = next_global(BASE, [], TERMS[strategy], moments)
    assert found.moments is moments
    for name, tensor in BASE.items():
        np.testing.assert_array_equal(found.tensors[name], tensor)


def test_next_global__fedadam_remembers(tmp_path):
    updates = contributions(tmp_path)
    first = next_global(BASE, updates, TERMS["fedadam"])
    second = next_global(first.tensors, updates, TERMS["fedadam"], first.moments)
    assert (first.moments.steps, second.moments.steps) == (1, 2)
    np.testing.assert_allclose(second.moments.first["head.weight"], 0.19 * AVERAGE, rtol=1e-12)
    np.testing.assert_allclose(second.moments.second["head.weight"], 0.0199 * AVERAGE**2, rtol=1e-12)


@pytest.mark.parametrize("strategy", ["fedavg", "fedmedian", "fedtrimmedavg", "krum", "multikrum"])
@pytest.mark.parametrize("lie", ["scaled", "flipped"])
def test_next_global__one_site_of_five_lies(tmp_path, strategy, lie):
    """What a strategy stops: four sites agree up to noise, one sends −20 times, or the negative of, the same.

    Half of the patients are at the site that lies. fedavg and fedadam stop nothing (fedadam: next test). The others
    keep the step on the honest side; none of them is unharmed in every coordinate.
    """
    generator = np.random.default_rng(3)
    truth = np.full(200, 1.0)
    updates = {site: {"head.weight": truth + generator.normal(0, 0.3, 200)} for site in PATIENTS}
    updates["coast"]["head.weight"] = (-20 if lie == "scaled" else -1) * updates["coast"]["head.weight"]
    patients = {**PATIENTS, "coast": 100}
    base = {"head.weight": np.zeros(200, np.float32)}
    step = next_global(base, contributions(tmp_path, updates, patients), TERMS[strategy]).tensors["head.weight"]
    error = float(np.abs(step - truth).mean())
    if strategy == "fedavg":
        assert step.mean() < 0.1, "averaging stops nothing: the step is lost or turned round"
    else:
        assert error < 0.4, "one liar of five moves a robust average by no more than the noise of one site"


@pytest.mark.parametrize("strategy", ["krum", "multikrum", "fedmedian", "fedtrimmedavg"])
def test_next_global__a_majority_that_lies_wins(tmp_path, strategy):
    """What no strategy stops: three of five."""
    updates = {site: {"head.weight": np.full(50, 1.0)} for site in PATIENTS}
    for site in ("coast", "south", "west"):
        updates[site] = {"head.weight": np.full(50, -1.0)}
    base = {"head.weight": np.zeros(50, np.float32)}
    step = next_global(base, contributions(tmp_path, updates), TERMS[strategy]).tensors["head.weight"]
    assert step.mean() < 0


def test_next_global__fedadam_bounds_a_scaled_lie_but_not_its_direction(tmp_path):
    """What fedadam stops: the size. A step is about eta per weight however long the lie; its sign is the liar's."""
    updates = {site: {"head.weight": np.full(50, 1.0)} for site in PATIENTS}
    updates["coast"] = {"head.weight": np.full(50, -1e6)}
    base = {"head.weight": np.zeros(50, np.float32)}
    step = next_global(base, contributions(tmp_path, updates), TERMS["fedadam"]).tensors["head.weight"]
    np.testing.assert_allclose(step, -0.1, rtol=0.01)


@pytest.mark.parametrize(
    ("terms", "problem"),
    [
        ({"strategy": "krum", "minimum_sites": 4}, "fewer than 5 sites"),
        ({"strategy": "krum", "krum": {"malicious_sites": 2}, "minimum_sites": 6}, "fewer than 7 sites"),
        ({"strategy": "multikrum", "krum": {"selected_sites": 5}, "minimum_sites": 5}, "at most 4"),
        ({"strategy": "fedmedian", "minimum_sites": 2}, "fewer than 3 sites"),
        ({"strategy": "fedtrimmedavg", "minimum_sites": 4}, "fewer than 5 sites"),
        ({"strategy": "fedadam", "server_learning_rate": 0.5}, "adam.eta"),
    ],
)
def test_aggregation_terms__refuse_protection_in_name_only(terms, problem):
    with pytest.raises(ValidationError, match=problem):
        AggregationTerms.model_validate(terms)
