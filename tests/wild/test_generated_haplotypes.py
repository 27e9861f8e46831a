"""One person's haplotypes, spelled in two of the ways in which callers write them: no difference, in either direction.

`generated_haplotypes.py` says which people and which spellings, and tries thousands by hand.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from generated_haplotypes import REPEATS, faults
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("FEDCALL_WILD_EXAMPLES", "40"))
wild = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fedcall-wild-") as name:
        yield Path(name)


@wild
@given(st.integers(0, 1 << 32), st.sampled_from(REPEATS), st.booleans())
def test_person__two_spellings_are_one_person_and_normalising_keeps_the_haplotypes(
    folder: Path, seed: int, repeat: str, dense: bool
) -> None:
    assert faults(folder, seed, repeat, dense)[0] == []


@pytest.mark.parametrize(
    ("seed", "repeat"),
    [(2941612270, "A" * 12), (468354451, "GAT" * 6), (2269022599, "CA" * 8), (1467670483, "")],
)
def test_person__where_bcftools_norm_moves_an_indel_past_a_change_of_its_haplotype(
    folder: Path, seed: int, repeat: str
) -> None:
    found, by_norm = faults(folder, seed, repeat, dense=True)
    assert by_norm, "bcftools norm spells another haplotype here"
    assert found == []
