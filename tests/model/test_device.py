"""`device`: gradients may be computed elsewhere; sums and noise are whole numbers on the CPU."""

import numpy as np
import pytest
import torch

from example_patients import write_patient
from fedcall.errors import FedcallError
from fedcall.genomics.examples import open_examples
from fedcall.model.caller import build_model
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.terms import Site, Study
from fedcall.training import dp_sgd
from fedcall.training.rounds import choose_device

SECRET = bytes(range(32))
TERMS = PrivacyTerms(sampling_rate=1.0, steps_per_round=2, rows_per_unit=8, delta=1e-2)
STUDY = Study(
    name="s", sites=(Site(name="north", public_key="A" * 43 + "=", node_key="ssh", patients=3),), privacy=TERMS
)


@pytest.fixture
def patients(tmp_path):
    return {f"p{seed}": open_examples(write_patient(tmp_path / f"p{seed}.safetensors", seed)) for seed in range(3)}


@pytest.mark.parametrize(
    ("wanted", "available", "expected"),
    [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_choose_device__auto_takes_a_gpu_if_there_is_one(monkeypatch, wanted, available, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert choose_device(wanted) == expected


def test_choose_device__no_gpu_is_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(FedcallError, match="sees no CUDA device"):
        choose_device("cuda")


def test_train_privately__sums_whole_numbers_on_the_cpu_whatever_the_device(patients, monkeypatch):
    """What a CPU can show of the path to another device: it is named, and exactness does not depend on its name."""
    sums = []
    original = dp_sgd.noisy_sum

    def remember(secret, context, total, *rest):
        sums.append(total)
        return original(secret, context, total, *rest)

    monkeypatch.setattr(dp_sgd, "noisy_sum", remember)
    here = dp_sgd.train_privately(build_model(), STUDY, "north", 1, patients, SECRET, device="cpu").tensors
    there = dp_sgd.train_privately(build_model(), STUDY, "north", 1, patients, SECRET, device="cpu:0").tensors
    assert all(isinstance(total, np.ndarray) and total.dtype == np.int64 for total in sums)
    assert all((here[name] == there[name]).all() for name in here)
