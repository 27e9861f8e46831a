"""How numbers are written, what an epsilon means, and the figures."""

import math
from decimal import Decimal
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcall.privacy.accounting.membership import membership
from fedcall.reporting.base.figures import Estimate, calibration, dots, spending
from fedcall.reporting.base.gauge import gauge
from fedcall.reporting.base.pages import display, power_of_ten, round_up

epsilons = st.floats(0, 1e4)


@given(epsilons)
def test_round_up__never_understates_and_is_close(epsilon: float) -> None:
    shown = Decimal(round_up(epsilon))
    assert shown >= Decimal(epsilon) or math.isclose(shown, epsilon, rel_tol=1e-15)
    assert float(shown) - epsilon <= 0.01


def test_round_up__small_values_keep_digits() -> None:
    assert round_up(0.00123) == "0.00123"
    assert round_up(2.4) == "2.40"
    assert round_up(2.401) == "2.41"


@pytest.mark.parametrize(("value", "text"), [(1e-3, "10⁻³"), (1.5e-5, "1.5 × 10⁻⁵"), (2e-12, "2 × 10⁻¹²")])
def test_power_of_ten__is_written_as_people_write_it(value: float, text: str) -> None:
    assert power_of_ten(value) == text


def test_display__certainty_is_never_rounded_to_one_hundred() -> None:
    assert display(math.exp(8) / (1 + math.exp(8)), "belief") == "99.97 %"
    assert display(1 - 1e-9, "belief") != "100.0 %"


@given(st.floats(0, 30))
def test_display__what_an_attacker_may_reach_is_never_understated(epsilon: float) -> None:
    found = membership(epsilon, 1e-5, epsilon)
    assert found is not None
    assert float(display(found.odds, "odds").replace(",", "")) >= found.odds
    for share in (found.posterior, found.accuracy):
        shown = Decimal(display(share, "belief").removesuffix(" %"))
        assert shown >= Decimal(repr(100 * share))


def test_display__digests_are_short_and_times_are_readable() -> None:
    assert display("0123456789abcdef", "short") == "0123456789ab…"
    assert display("2026-11-24T08:12:31+00:00", "time") == "2026-11-24 08:12"


@given(st.floats(0, 25), st.floats(1e-12, 0.1))
def test_membership__bounds_are_those_of_the_two_error_inequalities(epsilon: float, delta: float) -> None:
    found = membership(epsilon, delta, epsilon + 1)
    assert found is not None
    assert math.isclose(found.odds, math.exp(epsilon + 1))
    assert math.isclose(found.posterior, found.odds / (1 + found.odds))
    # The attacker at the corner of both inequalities has equal errors (1 - delta) / (1 + e^epsilon).
    error = (1 - delta) / (1 + math.exp(epsilon))
    assert math.isclose(found.accuracy, 1 - error, rel_tol=1e-9)
    assert math.isclose(error + math.exp(epsilon) * error, 1 - delta, rel_tol=1e-9)


def test_membership__no_loss_is_a_coin_and_no_bound_is_none() -> None:
    nothing = membership(0.0, 1e-12, 0.0)
    assert nothing is not None
    assert (nothing.odds, nothing.posterior) == (1.0, 0.5)
    assert membership(math.inf, 1e-3, math.inf) is None
    assert membership(None, 1e-3, None) is None


@pytest.mark.parametrize(
    "svg",
    [
        spending([1, 2], [0.5, 0.9], [0.7, 1.2], [(1, 0.5), (4, 1.4)], 8.0, "patient"),
        dots("sites", ["north", "south"], {"a": [Estimate(0.9, 0.8, 0.95), None], "b": [None, None]}, "F1"),
        calibration("quality", {"a": [(5.0, Estimate(6.0, 5.0, 7.0)), (15.0, Estimate(14.0, 12.0, 17.0))]}),
        gauge(2.0, 8.0, "ε 2.00", "Gauge"),
        gauge(None, None, "ε unlimited", "Gauge"),
    ],
)
def test_figures__are_well_formed_and_follow_the_pages_ink(svg: str) -> None:
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    assert "width" not in root.attrib
    assert "currentColor" in svg or "<text" in svg
    assert "#010203" not in svg


def test_spending__equal_numbers_draw_equal_bytes() -> None:
    arguments = ([1, 2], [0.5, 0.9], [0.7, 1.2], [(1, 0.5), (4, 1.4)], 8.0, "patient")
    assert spending(*arguments) == spending(*arguments)


def test_gauge__arc_ends_where_the_share_says() -> None:
    half = gauge(4.0, 8.0, "ε 4.00", "Gauge")
    assert "A90 90 0 0 1 110.00 15.00" in half
    assert "A90 90 0 0 1 200.00 105.00" in gauge(9.0, 8.0, "ε 9.00", "Gauge")  # never beyond the end
    assert 'class="spent"' not in gauge(0.0, 8.0, "ε 0.00", "Gauge")


def test_display__numbers_have_thousands_and_no_noughts() -> None:
    assert [display(value, "number") for value in (1234567, 4.0, 0.25)] == ["1,234,567", "4", "0.25"]
    assert display(4.0, "cap") == "4"
