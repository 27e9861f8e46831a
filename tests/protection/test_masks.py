"""Masks: exact sums, the same bytes again, and never one mask for two vectors."""

import base64
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedcall.protection.masks import Release, flat, mask_update, open_seed, seed_info, sum_of_masks, unflat
from fedcall.weights import weights_digest

RELEASE = Release("a" * 64, "north", 1, "b" * 64)
SECRET = b"\x01" * 32


def key_text(key: X25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


@pytest.fixture(scope="module")
def helpers() -> dict[str, X25519PrivateKey]:
    return {name: X25519PrivateKey.generate() for name in ("one", "two")}


def vector(seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    draw = lambda shape: generator.integers(-(2**31), 2**31, shape, dtype=np.int64).astype(np.int32)  # noqa: E731
    return {"head.weight": draw((3, 8)), "head.bias": draw((3,)), "a": draw((70_000,))}


def test_mask_update__the_opened_sum_is_bit_for_bit_the_sum_of_the_vectors(helpers):
    keys = {name: key_text(key) for name, key in helpers.items()}
    vectors = {f"site{number}": vector(number) for number in range(5)}
    masked = {
        site: mask_update(tensors, replace(RELEASE, site=site), SECRET + site.encode(), keys)
        for site, tensors in vectors.items()
    }
    opened = sum(flat(one.tensors) for one in masked.values())
    for name, key in helpers.items():
        seeds = []
        for site, one in masked.items():
            sealed = {seed.helper: seed.seed for seed in one.envelope.seeds}[name]
            info = seed_info(RELEASE.study, site, 1, name, weights_digest(one.tensors))
            seeds.append(open_seed(sealed, key, info))
        opened = opened - sum_of_masks(seeds, masked["site0"].envelope.values)
    expected = {name: sum(one[name] for one in vectors.values()) for name in vectors["site0"]}
    found = unflat(opened, expected)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_mask_update__same_inputs_give_the_same_bytes(helpers):
    keys = {name: key_text(key) for name, key in helpers.items()}
    first, again = (mask_update(vector(1), RELEASE, SECRET, keys) for _ in range(2))
    assert weights_digest(first.tensors) == weights_digest(again.tensors)
    assert first.envelope == again.envelope


@pytest.mark.parametrize("change", ["last digit", "inputs", "round", "site", "study", "secret"])
def test_mask_update__no_mask_hides_two_vectors(helpers, change):
    keys = {"one": key_text(helpers["one"])}
    other, release, secret = vector(1), RELEASE, SECRET
    if change == "last digit":
        other["head.bias"][0] ^= 1
    elif change == "secret":
        secret = b"\x02" * 32
    else:
        release = replace(release, **{change: 2 if change == "round" else "c" * 64})
    first, second = mask_update(vector(1), RELEASE, SECRET, keys), mask_update(other, release, secret, keys)
    masks = [flat(one.tensors) - flat(plain) for one, plain in ((first, vector(1)), (second, other))]
    assert np.mean(masks[0] == masks[1]) < 0.001


def test_mask_update__a_masked_vector_looks_like_random_numbers(helpers):
    zeros = {"a": np.zeros(400_000, np.int32)}
    masked = flat(mask_update(zeros, RELEASE, SECRET, {"one": key_text(helpers["one"])}).tensors)
    share_of_ones = np.unpackbits(masked.view(np.uint8)).reshape(-1, 8).mean(axis=0)
    assert np.abs(share_of_ones - 0.5).max() < 6 * 0.5 / np.sqrt(4 * len(masked))


def test_open_seed__of_garbage_is_none(helpers):
    for text in ("", "!", "AAAA", base64.b64encode(b"x" * 80).decode()):
        assert open_seed(text, helpers["one"], b"info") is None


def test_mask_update__refuses_what_it_cannot_hide(helpers):
    with pytest.raises(ValueError, match="helper"):
        mask_update(vector(1), RELEASE, SECRET, {})
    with pytest.raises(ValueError, match="int32"):
        mask_update({"a": np.zeros(3, np.float32)}, RELEASE, SECRET, {"one": key_text(helpers["one"])})
