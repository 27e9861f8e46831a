"""Noise that is another's, or none of the agreed kind, is found; honest noise never is."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from fedcall.federation.aggregator.noise_checks import SAMPLED, EarlierUpdates, check_noise_shape, noise_of_last_step
from fedcall.federation.aggregator.update_checks import Refused
from fedcall.privacy.terms import Mechanism, PrivacyTerms
from fedcall.study.claims import Claim
from fedcall.study.terms import ModelTerms, Site, Study

MECHANISMS: tuple[Mechanism, ...] = ("gaussian", "laplace")
TRIES = int(os.environ.get("FEDCALL_NOISE_TRIES", "60"))


def study_of(mechanism: Mechanism, steps: int = 4) -> Study:
    site = Site(name="north", public_key="A" * 43 + "=", node_key="key", patients=40)
    terms = PrivacyTerms(
        mechanism=mechanism,
        noise_multiplier=2.0,
        sampling_rate=0.5,
        steps_per_round=steps,
        delta=1e-3,
        max_epsilon=None,
    )
    return Study(name="tiny", sites=(site,), model=ModelTerms(), privacy=terms)


def claim_of(study: Study) -> Claim:
    return Claim.model_construct(site="north", clipping=None, privacy=study.privacy)


def noise(generator: np.random.Generator, mechanism: Mechanism, std: float, count: int) -> np.ndarray:
    if mechanism == "gaussian":
        return generator.normal(0, std, count)
    return generator.laplace(0, std / np.sqrt(2), count)


def refused(study: Study, values: np.ndarray, base_size: float = 0.3) -> bool:
    try:
        check_noise_shape(study, claim_of(study), {"w": values.astype(np.float32)}, base_size)
    except Refused as error:
        return error.reason == "noise-floor"
    return False


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("count", [120, 684, 24_273])
def test_check_noise_shape__honest_updates(mechanism: Mechanism, count: int) -> None:
    """Whatever the rest of an update is: nothing, a constant, spikes, or far longer than the noise."""
    study = study_of(mechanism)
    std = noise_of_last_step(study, claim_of(study))
    generator = np.random.default_rng(1)
    for number in range(TRIES):
        rest: Any = (0.0, 5 * std, std * generator.normal(0, 20, count), np.where(np.arange(count) % 9, 0, 99 * std))[
            number % 4
        ]
        assert not refused(study, rest + noise(generator, mechanism, std, count))


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("count", [684, 24_273])
def test_check_noise_shape__constants_few_values_and_thin_noise(mechanism: Mechanism, count: int) -> None:
    study = study_of(mechanism)
    std = noise_of_last_step(study, claim_of(study))
    whole = 2 * std  # four steps: twice the noise of the last
    generator = np.random.default_rng(2)
    signs = generator.choice([-1.0, 1.0], count)
    assert refused(study, np.full(count, whole))
    assert refused(study, whole * signs)
    assert refused(study, whole * generator.choice(np.linspace(-1.7, 1.7, 10), count))
    assert refused(study, whole * signs + noise(generator, mechanism, std / 100, count))
    spikes = np.zeros(count)
    spikes[: count // 20] = whole * np.sqrt(20)
    assert refused(study, spikes + noise(generator, mechanism, std / 20, count))


def test_check_noise_shape__where_rounding_hides_the_noise_nothing_is_refused() -> None:
    study = study_of("gaussian")
    std = noise_of_last_step(study, claim_of(study))
    rounded = np.zeros(5000)  # weights so large that float32 cannot hold an update as small as its noise
    assert not refused(study, rounded, base_size=std * 1e9)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def stored(folder: Path, name: str, values: np.ndarray) -> Path:
    path = folder / f"{name}.safetensors"
    save_file({"w": values.astype(np.float32)}, path)
    return path


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_find_reused__copies_of_any_kind(folder: Path, mechanism: Mechanism) -> None:
    generator = np.random.default_rng(3)
    count, std = 9000, 1e-3
    signal = generator.normal(0, 3 * std, count)
    one = (signal + noise(generator, mechanism, std, count)).astype(np.float32)
    first = stored(folder, "first", one)
    kinds = {
        "exact": one,
        "one more digit": np.nextafter(one, np.float32(1)),
        "scaled": 0.7 * one,
        "negative": -one,
        "hidden": one + 0.1 * noise(generator, mechanism, std, count),
    }
    for name, values in kinds.items():
        again = stored(folder, name, values)
        # In the same round, and in a later one.
        assert EarlierUpdates(b"k").find_reused([first, again], [std, std], [], mechanism) == [1], name
        assert EarlierUpdates(b"k").find_reused([again], [std], [first], mechanism) == [0], name


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_find_reused__the_same_signal_with_other_noise_is_honest(folder: Path, mechanism: Mechanism) -> None:
    """Hospitals that learn exactly the same, far louder than their noise, and rounds that repeat it."""
    generator = np.random.default_rng(4)
    count, std = 684, 1e-3
    for number in range(TRIES // 10):
        signal = generator.normal(0, (0, 1, 50)[number % 3] * std, count)
        paths = [
            stored(folder, f"{number}-{site}", signal + noise(generator, mechanism, std, count)) for site in range(12)
        ]
        assert EarlierUpdates(b"k").find_reused(paths[:6], [std] * 6, paths[6:], mechanism) == []


def test_find_reused__no_noise_agreed_and_nobody_there(folder: Path) -> None:
    path = stored(folder, "bare", np.ones(500))
    assert EarlierUpdates(b"k").find_reused([path, path], [0.0, 0.0], [path], "gaussian") == []
    assert EarlierUpdates(b"k").find_reused([], [], [path], "gaussian") == []


def test_earlier_updates__compare_coordinates_that_only_the_coordinator_knows(folder: Path) -> None:
    path = stored(folder, "large", np.arange(50_000.0))
    one, other = EarlierUpdates(b"a").sample(path), EarlierUpdates(b"b").sample(path)
    assert len(one) == SAMPLED
    assert not np.array_equal(one, other)
    assert np.array_equal(one, EarlierUpdates(b"a").sample(path))
