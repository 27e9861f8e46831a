"""The model: fresh it is the likelihood caller, its bytes are the same everywhere, its head sees bounded features."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcall.errors import FedcallError
from fedcall.genomics.examples import (
    COUNT_CHANNELS,
    FEATURES,
    IS_INDEL,
    WINDOW,
    Examples,
    empty_examples,
    make_examples,
)
from fedcall.model import inference as network
from fedcall.model.caller import Largest, build_model, load_model, posteriors, save_model, weights_of
from fedcall.model.chemistry import FLOOR
from fedcall.model.encoding import encode
from fedcall.study.terms import ModelTerms
from fedcall.weights import weights_digest, write_weights


def random_examples(rows: int, seed: int = 0) -> Examples:
    generator = np.random.default_rng(seed)
    likelihoods = -generator.exponential(8.0, (rows, 3))
    return make_examples(
        [("A", "G")] * rows,
        {"contigs": '["chr20"]'},
        counts=generator.integers(0, 40, (rows, len(COUNT_CHANNELS), WINDOW)),
        reference=generator.integers(0, 5, (rows, WINDOW)),
        features=generator.uniform(-3, 3, (rows, len(FEATURES))),
        log_likelihoods=likelihoods - likelihoods.max(1, keepdims=True, initial=-np.inf),
        labels=generator.integers(-1, 3, rows),
        contig=np.zeros(rows),
        position=np.arange(rows),
        allele_depths=np.ones((rows, 2)),
        depth=np.full(rows, 30),
    )


def trained_like_model(seed: int = 1):
    """Return a model whose head is not zero."""
    model = build_model()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.head.weight.add_(torch.randn(model.head.weight.shape, generator=generator))
    return model


def test_build_model__fresh_is_the_likelihood_caller():
    examples = random_examples(300)
    _, _, log_posteriors = encode(examples, np.arange(300))
    result = posteriors(build_model(), examples)
    np.testing.assert_allclose(result, np.exp(log_posteriors), rtol=1e-5, atol=1e-7)
    assert (result.argmax(1) == log_posteriors.argmax(1)).all()
    logits = build_model()(*(torch.from_numpy(array) for array in encode(examples, np.arange(300))))
    assert torch.equal(logits, torch.from_numpy(np.maximum(log_posteriors, FLOOR)))


def test_build_model__same_bytes_whatever_torch_seed():
    torch.manual_seed(1)
    first = weights_digest(weights_of(build_model()))
    torch.manual_seed(2)
    assert weights_digest(weights_of(build_model())) == first


def test_build_model__is_small_and_opacus_accepts_it():
    from opacus.validators import ModuleValidator

    model = build_model()
    assert 20_000 < sum(parameter.numel() for parameter in model.parameters()) < 30_000
    assert 200 < sum(parameter.numel() for parameter in model.head.parameters()) < 1000
    assert ModuleValidator.validate(model) == []


@pytest.mark.parametrize(
    ("trainable", "expected"),
    [
        ("head", {"head"}),
        ("norm_and_head", {"head", "norm0", "norm1", "norm2"}),
        ("all", {"head", "norm0", "norm1", "norm2", "stem", "conv1", "conv2", "hidden"}),
    ],
)
def test_build_model__trains_what_the_terms_say(trainable, expected):
    model = build_model(ModelTerms(trainable=trainable))
    assert {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad} == expected


def test_features__stay_bounded_for_absurd_inputs():
    model = build_model()
    windows = torch.full((2, model.stem.in_channels, WINDOW), 1e4)
    odds = torch.tensor([[0.0, -1e4, -2e4]] * 2)
    head_inputs = model.head_inputs(model.pooled(windows), torch.full((2, len(FEATURES)), -1e4), odds)
    assert head_inputs.shape == (2, model.head.in_features)
    assert head_inputs.abs().max() <= 1


def test_model__head_corrects_snps_without_touching_indels():
    model = build_model()
    examples = random_examples(60)
    is_indel = examples.features[:, IS_INDEL] > 0
    assert 0 < is_indel.sum() < len(examples)
    before = posteriors(model, examples)
    with torch.no_grad():
        model.head.weight[:, : model.head.in_features // 2] = torch.randn(3, model.head.in_features // 2)
    after = posteriors(model, examples)
    assert (after[is_indel] == before[is_indel]).all()
    assert (np.abs(after - before).max(1)[~is_indel] > 0).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 70), st.sampled_from([0.0, 0.1, 1.0]))
def test_logits__of_numpy_are_those_of_torch(seed, rows, scale):
    model = build_model()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    inputs = encode(random_examples(rows, seed), np.arange(rows))
    with torch.inference_mode():
        expected = model(*map(torch.from_numpy, inputs)).numpy()
    found = network.logits(weights_of(model), *inputs)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_shapes__are_those_of_the_trained_model():
    assert {name: tensor.shape for name, tensor in weights_of(build_model()).items()} == network.SHAPES


def test_posteriors__do_not_depend_on_other_rows():
    examples = random_examples(300)
    model = trained_like_model()
    whole = posteriors(model, examples)
    for rows in (1, 5, 131):
        assert (whole[:rows] == posteriors(model, random_examples_head(examples, rows))).all()
    np.testing.assert_allclose(whole.sum(1), 1, rtol=1e-5)


def test_posteriors__no_rows():
    assert posteriors(build_model(), empty_examples()).shape == (0, 3)


def test_save_model__round_trip(tmp_path):
    model = trained_like_model()
    save_model(tmp_path / "m.safetensors", model, {"study": "s"})
    save_model(tmp_path / "n.safetensors", model, {"study": "s"})
    assert (tmp_path / "m.safetensors").read_bytes() == (tmp_path / "n.safetensors").read_bytes()
    loaded = load_model(tmp_path / "m.safetensors")
    assert weights_digest(weights_of(loaded)) == weights_digest(weights_of(model))


def test_load_model__says_what_is_wrong(tmp_path):
    path = tmp_path / "m.safetensors"
    good = weights_of(build_model())

    def error(tensors, metadata=None):
        write_weights(path, tensors, metadata or {})
        with pytest.raises(FedcallError) as caught:
            load_model(path)
        return str(caught.value)

    assert "architecture 'other'" in error(good, {"architecture": "other"})
    assert "'stem.bias' is missing" in error({name: value for name, value in good.items() if name != "stem.bias"})
    assert "'extra' does not belong" in error(good | {"extra": good["stem.bias"]})
    assert "float32 (3,) expected" in error(good | {"head.bias": np.zeros(4, np.float32)})
    assert "float64" in error(good | {"head.bias": np.zeros(3)})
    assert "not finite" in error(good | {"head.bias": np.array([0, np.nan, 0], np.float32)})
    path.write_bytes(b"half a file")
    with pytest.raises(FedcallError, match="complete"):
        load_model(path)


def random_examples_head(examples: Examples, rows: int) -> Examples:
    """Return the first rows as examples of their own."""
    names = ("counts", "reference", "features", "log_likelihoods", "labels", "contig", "position")
    arrays = {name: getattr(examples, name)[:rows] for name in (*names, "allele_depths", "depth")}
    return make_examples([examples.alleles(row) for row in range(rows)], examples.metadata, **arrays)


def test_largest__equal_values_share_the_gradient_as_in_torch():
    x = torch.randint(0, 4, (5, 3, 33)).float().requires_grad_()
    weights = torch.arange(15.0).view(5, 3)
    found, expected = Largest.apply(x), x.amax(2)
    assert torch.equal(found, expected)
    assert torch.equal(*(torch.autograd.grad(one, x, weights)[0] for one in (found, expected)))


def test_posteriors__in_several_processes_are_the_same():
    examples, tensors = random_examples(5_000), weights_of(trained_like_model())
    assert (network.posteriors(tensors, examples, threads=2) == network.posteriors(tensors, examples)).all()
