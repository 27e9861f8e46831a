"""The likelihood's own constants: nothing without training, right gradients, and never a place in the genome."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fedcall.genomics.examples import Examples, open_examples
from fedcall.model import chemistry, inference
from fedcall.model import chemistry_belief_kernels as beliefs
from fedcall.model import chemistry_kernels as kernels
from fedcall.model.caller import build_model, load_model, save_model, weights_of
from fedcall.model.chemistry_layer import with_added
from fedcall.weights import read_weights, write_weights
from made_rows import people_with_reads

GOLDEN = Path(__file__).parents[1] / "golden/examples.safetensors"


@pytest.fixture(scope="module")
def examples() -> Examples:
    """Candidates of a made patient, SNPs and indels, as extraction writes them."""
    return open_examples(GOLDEN)


def all_rows(examples: Examples) -> np.ndarray:
    return chemistry.observed(examples, np.arange(len(examples)))


def constants(seed: int, units: int = 1, size: float = 0.3) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, size, (units, beliefs.CONSTANTS))


def of(tensors: np.ndarray) -> np.ndarray:
    """Return the constants that tensors, joined, stand for."""
    return chemistry.constants_of(chemistry.joined_parts(tensors))


def learned(**parts: float) -> dict[str, np.ndarray]:
    """Return the tensors of a fresh model, with some of its chemistry set to a value throughout."""
    tensors = weights_of(build_model())
    return tensors | {
        chemistry.PREFIX + name: np.full(chemistry.TENSORS[name].shape, value, np.float32)
        for name, value in parts.items()
    }


def test_tensors__are_the_constants_of_the_kernels():
    assert sum(int(np.prod(one.shape)) for one in chemistry.TENSORS.values()) == beliefs.CONSTANTS
    begin = 0
    for name, tensor in chemistry.TENSORS.items():
        assert getattr(beliefs, name.upper()) == begin, name
        begin += int(np.prod(tensor.shape))


def test_likelihoods__of_zero_constants_are_those_that_examples_hold(examples):
    assert (examples.repeats[:, 0] > 0).any()
    assert (examples.repeats[:, 0] == 0).any()
    found = np.empty((len(examples), 3))
    kernels.likelihoods(all_rows(examples), np.zeros((1, beliefs.CONSTANTS)), found)
    found -= found.max(1, keepdims=True)
    np.testing.assert_allclose(found, examples.log_likelihoods, rtol=1e-5, atol=1e-4)


def test_posteriors__untrained_are_the_likelihoods_bit_for_bit(examples, tmp_path):
    tensors = weights_of(build_model())
    without = {name: tensor for name, tensor in tensors.items() if not name.startswith(chemistry.PREFIX)}
    write_weights(tmp_path / "older.safetensors", without, {"architecture": inference.ARCHITECTURE})
    older = inference.checked_tensors(read_weights(tmp_path / "older.safetensors"), "older")
    found = inference.posteriors(tensors, examples)
    np.testing.assert_array_equal(found, inference.posteriors(older, examples))
    blind = replace(examples, observations=np.zeros_like(examples.observations))
    np.testing.assert_array_equal(found, inference.posteriors(tensors, blind))
    # The change itself is exactly zero, too: there is no other road to the same figures.
    assert not chemistry.change(all_rows(examples), np.zeros((1, beliefs.CONSTANTS))).any()


def test_judged__rows_that_nothing_is_added_to_stay_as_they_are():
    given = np.array([[-0.1, -2.5, -80.0], [-3.0, -0.2, -1.9]], np.float32)
    added = np.array([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    found = chemistry.with_chemistry(given, added)
    np.testing.assert_array_equal(found[0], np.maximum(given[0], np.float32(chemistry.FLOOR)))
    assert np.exp(found[1]).sum() == pytest.approx(1, abs=1e-6)
    assert found[1, 1] - found[1, 0] == pytest.approx(3.8, abs=1e-5)
    in_torch = with_added(torch.from_numpy(given), torch.from_numpy(added))[1].numpy()
    np.testing.assert_allclose(in_torch, found[1], rtol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_change_gradients__are_the_finite_differences(examples, seed):
    """Away from zero: there several beliefs are equal, and the smallest of them has no derivative."""
    tensors, step = constants(seed), 1e-5
    for rows in (all_rows(examples), all_rows(people_with_reads(60, seed))):
        backprops = np.random.default_rng(seed).normal(0, 1, (len(rows), 3))
        expected = np.empty(beliefs.CONSTANTS)
        for number in range(beliefs.CONSTANTS):
            moved = np.eye(beliefs.CONSTANTS)[number] * step
            difference = chemistry.change(rows, of(tensors + moved)) - chemistry.change(rows, of(tensors - moved))
            expected[number] = (difference * backprops).sum() / (2 * step)
        found = chemistry.change_gradients(rows, of(tensors), backprops, 1)[0]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_change_gradients__every_constant_has_one():
    """One without would be noise alone in every update."""
    people = people_with_reads(1000)
    repeats = np.random.default_rng(0).integers([1, 0, 0], [3, 13, 2], (1000, 3)).astype(np.uint8)
    rows = all_rows(replace(people, repeats=repeats))
    backprops = np.random.default_rng(1).normal(0, 1, (1000, 3))
    sure = constants(1)
    sure[0, [beliefs.BASE_LEVEL, beliefs.MAPPING_LEVEL]] = -5.0  # where limits of all reads begin to count
    sure[0, beliefs.DEPARTURES] = 1.0
    sure[0, beliefs.SHARED + 1] = -1.0  # above zero equal indels say what they say
    found = sum(np.abs(chemistry.change_gradients(rows, own, backprops, 1)[0]) for own in (constants(1), sure))
    assert (found > 0).all()


def test_change_gradients__of_units_are_those_of_their_rows_alone():
    rows, own = all_rows(people_with_reads(12)), constants(2, units=3)
    backprops = np.random.default_rng(2).normal(0, 1, (12, 3))
    each = chemistry.change_gradients(rows, own, backprops, 3)
    of_one = chemistry.change_gradients(rows, own[:1], backprops, 3)
    for unit in range(3):
        part = slice(4 * unit, 4 * unit + 4)
        alone = chemistry.change_gradients(rows[part], own[unit : unit + 1], backprops[part], 1)
        np.testing.assert_array_equal(each[unit], alone[0])
        same = chemistry.change_gradients(rows[part], own[:1], backprops[part], 1)
        np.testing.assert_array_equal(of_one[unit], same[0])


def test_change__a_row_depends_on_no_other_row(examples):
    own, rows = constants(3), all_rows(examples)
    whole = chemistry.change(rows, own)
    for row in range(len(examples)):
        alone = chemistry.observed(examples, np.array([row]))
        np.testing.assert_array_equal(chemistry.change(alone, own)[0], whole[row])


def test_posteriors__a_place_in_the_genome_changes_nothing(examples):
    tensors = learned(base_level=0.2, prior=0.3, homopolymer=0.5, substitution=-0.3)
    moved = replace(examples, position=examples.position[::-1] + 12_345, contig=np.zeros_like(examples.contig))
    found = inference.posteriors(tensors, examples)
    np.testing.assert_array_equal(found, inference.posteriors(tensors, moved))
    assert not np.array_equal(found, inference.posteriors(weights_of(build_model()), examples))


def test_posteriors__are_those_of_the_network_in_torch(examples):
    model, rows = build_model(), np.arange(len(examples))
    for name, tensor in learned(base_level=0.2, prior=0.3, shared=-0.5, missed=0.4).items():
        model.state_dict()[name].copy_(torch.from_numpy(tensor))
    inputs = [*inference.encode(examples, rows), chemistry.observed(examples, rows)]
    with torch.no_grad():
        found = torch.softmax(model(*(torch.from_numpy(one) for one in inputs)), 1).numpy()
    np.testing.assert_allclose(found, inference.posteriors(weights_of(model), examples), atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_belief__never_falls_with_quality_whatever_was_learned(seed):
    own = constants(seed, size=3.0)[0]
    for first, step in ((beliefs.BASE_LEVEL, 5), (beliefs.MAPPING_LEVEL, 10)):
        found = [beliefs.belief(own, first, quality, step) for quality in range(61)]
        assert (np.diff(found) >= 0).all()


def test_constants_of__noise_moves_none_further_than_the_limit():
    huge = {name: np.full(one.shape, 1e6) for name, one in chemistry.TENSORS.items()}
    found = chemistry.constants_of(huge)
    assert found.max() == chemistry.LARGEST
    rows = all_rows(people_with_reads(40))
    for sign in (1, -1):
        assert np.isfinite(chemistry.change(rows, sign * found)).all()
        gradients = chemistry.change_gradients(rows, sign * found, np.ones((40, 3)), 1)
        assert not gradients.any()  # what is at its limit is pushed no further


def test_load_model__a_model_from_before_there_was_chemistry(tmp_path):
    model = build_model()
    save_model(tmp_path / "model.safetensors", model)
    saved = read_weights(tmp_path / "model.safetensors")
    older = {name: tensor for name, tensor in saved.tensors.items() if not name.startswith(chemistry.PREFIX)}
    assert len(older) < len(saved.tensors)
    write_weights(tmp_path / "older.safetensors", older, saved.metadata)
    for name, tensor in load_model(tmp_path / "older.safetensors").state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
