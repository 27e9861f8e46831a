"""The public archives beside the checkout, held against htslib."""

from pathlib import Path

import pytest
from walk import FINDINGS, walk


@pytest.mark.real_data
def test_walk__shared_data_has_no_finding(shared_data: Path) -> None:
    outcomes = [outcome for folder in ("na12878", "ceu_1000g") for outcome in walk([shared_data / folder])]
    assert any(outcome.outcome == "same" for outcome in outcomes)
    assert [outcome for outcome in outcomes if outcome.outcome in FINDINGS] == []
