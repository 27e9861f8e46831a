"""What is expected of a candidate before its reads are seen."""

import numpy as np
import pytest

from fedcall.genomics.examples import BASES, CENTRE, FEATURES, IS_INDEL, WINDOW
from fedcall.genomics.priors import CPG, INDEL, TPG, TRANSITION, TRANSVERSION, kinds, log_priors, panel_log_priors


def one(around: str, alt: str, is_indel: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Scalars and reference of one candidate; `around` is the base before, the changed base and the base after."""
    features = np.zeros((1, len(FEATURES)), np.float32)
    features[0, IS_INDEL] = is_indel
    if not is_indel:
        features[0, FEATURES.index(f"ref_{around[1]}")] = features[0, FEATURES.index(f"alt_{alt}")] = 1
    reference = np.full((1, WINDOW), 4, np.uint8)
    reference[0, CENTRE - 1 : CENTRE + 2] = [(BASES + "N").index(base) for base in around]
    return features, reference


@pytest.mark.parametrize(
    ("around", "alt", "kind"),
    [
        ("ACG", "T", CPG),
        ("CGA", "A", CPG),
        ("ATG", "C", TPG),
        ("CAT", "G", TPG),
        ("ACA", "T", TRANSITION),
        ("AGA", "A", TRANSITION),
        ("NCN", "T", TRANSITION),
        ("ACG", "A", TRANSVERSION),
        ("ACG", "G", TRANSVERSION),
        ("CAG", "T", TRANSVERSION),
    ],
)
def test_kinds__of_substitutions(around: str, alt: str, kind: int) -> None:
    assert kinds(*one(around, alt)).tolist() == [kind]


def test_kinds__of_indels() -> None:
    assert kinds(*one("ACG", "T", is_indel=True)).tolist() == [INDEL]


@pytest.mark.parametrize("base", BASES)
def test_kinds__equal_on_both_strands(base: str) -> None:
    complement = dict(zip(BASES, reversed(BASES), strict=True))
    for before in BASES:
        for after in BASES:
            for alt in set(BASES) - {base}:
                forward = kinds(*one(before + base + after, alt))
                reverse = kinds(*one(complement[after] + complement[base] + complement[before], complement[alt]))
                assert forward.tolist() == reverse.tolist()


def test_log_priors__probabilities_in_the_order_of_mutation_rates() -> None:
    pairs = [one("ACG", "T"), one("ATG", "C"), one("ACA", "T"), one("ACA", "G"), one("ACA", "", is_indel=True)]
    features, reference = (np.concatenate(column) for column in zip(*pairs, strict=True))
    probabilities = np.exp(log_priors(features, reference))
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert (np.diff(probabilities[:4, 1]) < 0).all()
    assert (np.diff(probabilities[:4, 2]) < 0).all()


@pytest.mark.parametrize("haploid", [False, True])
@pytest.mark.parametrize("copies", [0.0, 1.0, 500.0, 2000.0])
def test_panel_log_priors__probabilities_sum_to_one_and_follow_the_frequency(copies: float, haploid: bool) -> None:
    features, reference = one("ACA", "G")
    people = np.array([2000.0])

    def priors(count: float) -> np.ndarray:
        return np.exp(panel_log_priors(features, reference, np.array([count]), people, np.array([haploid])))

    np.testing.assert_allclose(priors(copies).sum(1), 1)
    assert priors(copies)[0, 0] <= priors(max(copies - 1.0, 0.0))[0, 0]
