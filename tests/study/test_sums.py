"""Vectors that are added over sites: modulo 2^32, exactly, and what their sum means."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedcall.federation.aggregator.aggregation import apply_update
from fedcall.privacy.mechanism.pooling import SUM_GRID
from fedcall.study.sums import SumLayout, add_modulo, mean_update, opened_bounds, to_modulo, vector_multiplier
from pooled_study import DELTA, MASKED, POOLED, make_study

LAYOUT = SumLayout.of({"head.weight": (3, 2), "head.bias": (3,)})


@given(arrays(np.int64, st.tuples(st.integers(1, 6), st.just(4)), elements=st.integers(-(2**62), 2**62)))
def test_add_modulo__is_the_sum_modulo_2_to_the_32(vectors):
    opened = add_modulo(to_modulo(vector) for vector in vectors)
    exact = [sum(int(value) for value in column) for column in vectors.T]
    assert opened.tolist() == [(value + 2**31) % 2**32 - 2**31 for value in exact]


def test_add_modulo__other_types_and_nothing_are_refused():
    with pytest.raises(ValueError, match="int32 expected"):
        add_modulo([np.zeros(2, np.int64)])
    with pytest.raises(ValueError, match="one vector or more"):
        add_modulo([])


def test_sum_layout__a_vector_and_its_tensors():
    vector = np.arange(9, dtype=np.int32)
    tensors = LAYOUT.split(vector)
    assert tensors["head.bias"].tolist() == [0, 1, 2]
    assert (LAYOUT.flatten(tensors) == vector).all()
    with pytest.raises(ValueError, match="not those of the study's model"):
        LAYOUT.flatten({"head.bias": np.zeros(3, np.int32)})
    with pytest.raises(ValueError, match="holds int32"):
        LAYOUT.flatten({name: tensor.astype(np.int64) for name, tensor in tensors.items()})
    with pytest.raises(ValueError, match="9 numbers expected"):
        LAYOUT.split(vector[:-1])


def test_mean_update__divides_by_the_declared_units_of_the_sites_in_the_sum():
    study = make_study(privacy={**POOLED, **DELTA, "clip_norm": 0.5, "sampling_rate": 0.5})
    opened = np.full(9, 3 * SUM_GRID, np.int32)
    update = mean_update(study, LAYOUT, opened, ["site00", "site01", "site02"])
    assert update["head.bias"].dtype == np.float32
    assert np.allclose(update["head.weight"], 3 * 0.5 / (0.5 * 30))
    gradient = make_study(privacy={**POOLED, "clip_norm": 0.5, "sampling_rate": 0.5})
    assert np.allclose(mean_update(gradient, LAYOUT, opened, ["site00"])["head.bias"], 0.1 * 3 * 0.5 / (0.5 * 10))


def test_apply_update__takes_the_servers_step():
    study = make_study(privacy={**POOLED, **DELTA}, aggregation={"server_learning_rate": 2.0})
    base = {"head.bias": np.ones(3, np.float32), "stem.weight": np.ones(2, np.float32)}
    made = apply_update(base, {"head.bias": np.full(3, 0.25, np.float32)}, study.aggregation)
    assert made.tensors["head.bias"].tolist() == [1.5] * 3
    assert made.tensors["stem.weight"].tolist() == [1.0] * 2


def test_opened_bounds__noise_is_inside_and_too_little_is_not():
    study = make_study(sites=6, protection={**MASKED, "minimum_sites": 5, "tolerated_sites": 1})
    sites = [site.name for site in study.sites]
    generator = np.random.default_rng(1)
    noise = generator.normal(0, vector_multiplier(study), (6, 500))
    bounds = opened_bounds(study, sites, 500)
    honest = float(np.linalg.norm(noise[:5].sum(axis=0)))  # one leaves its noise out
    assert bounds.floor < honest < bounds.ceiling
    assert np.linalg.norm(noise[:2].sum(axis=0)) < bounds.floor
    assert (
        np.linalg.norm(noise.sum(axis=0)) + 30 < bounds.ceiling < 120
    )  # 30 of 60 patients drawn, where 15 are expected
