"""Model files: equal content, equal bytes; a broken file is named."""

import numpy as np
import pytest

from fedcall import __version__
from fedcall.errors import FedcallError
from fedcall.weights import read_weights, weights_digest, write_weights

TENSORS = {"head.bias": np.arange(3, dtype=np.float32), "body.weight": np.ones((2, 3), np.float32)}


def test_write_weights__order_does_not_matter(tmp_path):
    write_weights(tmp_path / "a", TENSORS, {"study": "x", "round": "1"})
    write_weights(tmp_path / "b", dict(reversed(TENSORS.items())), {"round": "1", "study": "x"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_read_weights__round_trip(tmp_path):
    write_weights(tmp_path / "a", TENSORS, {"round": "1"})
    weights = read_weights(tmp_path / "a")
    assert weights.metadata == {"round": "1", "software": f"fedcall {__version__}"}
    assert weights.digest == weights_digest(TENSORS)
    np.testing.assert_array_equal(weights.tensors["body.weight"], TENSORS["body.weight"])


def test_write_weights__no_tensors(tmp_path):
    write_weights(tmp_path / "empty", {}, {"round": "1"})
    assert read_weights(tmp_path / "empty").tensors == {}


@pytest.mark.parametrize(
    "changed",
    [
        {**TENSORS, "head.bias": np.arange(3, dtype=np.float64)},
        {**TENSORS, "head.bias": np.array([0, 1, 2.0000002], np.float32)},
        {**TENSORS, "body.weight": np.ones((3, 2), np.float32)},
        {"head.bias2": TENSORS["head.bias"], "body.weight": TENSORS["body.weight"]},
        {"head.bias": TENSORS["head.bias"]},
    ],
)
def test_weights_digest__every_change_counts(changed):
    assert weights_digest(changed) != weights_digest(TENSORS)


def test_read_weights__broken_file_is_named(tmp_path):
    with pytest.raises(FedcallError, match="a: no such model file"):
        read_weights(tmp_path / "a")
    write_weights(tmp_path / "a", TENSORS, {})
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:-4])
    with pytest.raises(FedcallError, match="a: not a complete safetensors file"):
        read_weights(tmp_path / "a")
