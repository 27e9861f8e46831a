"""A trunk that nobody trains is computed once, and the training is the same."""

import numpy as np
import torch

from fedcall.experiments.frozen_trunk import FrozenTrunkCaller, TrunkMemory
from fedcall.model.caller import build_model, weights_of
from fedcall.model.encoding import INPUT_CHANNELS
from fedcall.study.terms import ModelTerms


def test_frozen_trunk__sees_what_the_trunk_sees_and_computes_it_once():
    model = build_model()
    memory = TrunkMemory(weights_of(model))
    remembering = FrozenTrunkCaller(memory)
    remembering.load_state_dict(model.state_dict())
    windows = torch.randn(6, INPUT_CHANNELS, 33, generator=torch.Generator().manual_seed(1))
    seen, expected = remembering.pooled(windows), model.pooled(windows).detach()
    torch.testing.assert_close(seen, expected)
    assert torch.equal(remembering.pooled(windows[[4, 2, 2]]), seen[[4, 2, 2]])
    assert len(memory.pooled) == 6


def test_trunk_memory__serves_no_training_of_the_trunk_and_no_other_trunk():
    first = weights_of(build_model())
    memory = TrunkMemory(first)
    assert memory.serves(ModelTerms(trainable="head"), first)
    assert memory.serves(ModelTerms(trainable="chemistry"), first)
    assert not memory.serves(ModelTerms(trainable="norm_and_head"), first)
    assert not memory.serves(ModelTerms(trainable="all"), first)
    other = {name: np.array(tensor) for name, tensor in first.items()}
    other["stem.weight"][0, 0, 0] += 1
    assert not memory.serves(ModelTerms(trainable="head"), other)
