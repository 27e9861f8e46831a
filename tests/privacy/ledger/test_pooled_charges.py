"""Pooled noise in a ledger: charged as promised, recorded with its shares, limited if the promise is broken, too."""

import pytest
from pydantic import ValidationError

from fedcall.privacy.events import Event, round_event
from fedcall.privacy.ledger.ledger import Ledger, ReleaseRequest
from fedcall.privacy.ledger.limits import Limit
from fedcall.privacy.terms import PrivacyTerms

SECRET = bytes(range(32))
TERMS = PrivacyTerms(noise="pooled", steps_per_round=1, sampling_rate=0.5, noise_multiplier=3.14, delta=1e-3)
POOLED = round_event(TERMS, 10)


def request(round_number: int, **changes) -> ReleaseRequest:
    values = {
        "study": "a" * 64,
        "site": "north",
        "round": round_number,
        "event": POOLED,
        "delta": 1e-3,
        "max_epsilon": 8.0,
        "patients": ("p0", "p1"),
        "inputs": f"inputs {round_number}",
    }
    return ReleaseRequest(**values | changes)


def rounds_charged(ledger: Ledger, most: int = 6, **changes) -> int:
    """Return how many rounds had anybody charged."""
    charged = 0
    for number in range(1, most + 1):
        reservation = ledger.reserve(request(number, **changes))
        charged += bool(reservation.charged)
    return charged


def test_event__without_shares_is_the_text_it_always_was():
    plain = round_event(TERMS)
    assert "shares" not in plain.to_json()
    assert Event.from_json(POOLED.to_json()) == POOLED
    assert POOLED.alone().noise_multiplier == pytest.approx(3.14 / 10**0.5)
    assert plain.alone() == plain


def test_reserve__pooled_noise_is_charged_as_promised_and_what_is_left_of_a_broken_promise_is_known(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite", SECRET) as ledger:
        assert rounds_charged(ledger) == 6
        [standing] = ledger.standings("a" * 64)
    assert standing.epsilon(1e-3, "patient").pld == pytest.approx(1.1, abs=0.1)
    assert standing.epsilon_if_broken(1e-3, "patient").pld > 4


def test_reserve__a_hospitals_limit_holds_even_if_the_promise_is_broken(tmp_path):
    with Ledger.open(tmp_path / "strict.sqlite", SECRET) as ledger:
        strict = rounds_charged(ledger, limit=Limit(epsilon=3.0, delta=1e-3))
    with Ledger.open(tmp_path / "trusting.sqlite", SECRET) as ledger:
        trusting = rounds_charged(ledger, limit=Limit(epsilon=3.0, delta=1e-3, epsilon_if_broken=20.0))
    assert 1 <= strict < trusting == 6
    with Ledger.open(tmp_path / "own.sqlite", SECRET) as ledger:  # the same noise, each site all of it
        assert rounds_charged(ledger, limit=Limit(epsilon=3.0, delta=1e-3), event=round_event(TERMS)) == 6


def test_reserve__a_limit_agreed_before_any_noise_was_pooled_holds_for_ever(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite", SECRET) as ledger:
        own = request(1, study="b" * 64, event=round_event(TERMS), limit=Limit(epsilon=3.0, delta=1e-3))
        assert ledger.reserve(own).charged
        assert rounds_charged(ledger) < 6  # the file is gone since


def test_reserve__withholds_what_would_pass_the_studys_cap_on_a_broken_promise(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite", SECRET) as ledger:
        found = [ledger.reserve(request(number, max_epsilon_if_broken=4.0)) for number in range(1, 7)]
    states = [one.state for one in found]
    assert states[0] == "reserved"
    assert states[-1] == "withheld"
    assert "if single updates are seen, above max_epsilon_if_broken 4 at delta 0.001" in found[-1].sentence


def test_reserve__the_studys_cap_on_a_broken_promise_holds_for_its_people_in_later_studies(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite", SECRET) as ledger:
        assert rounds_charged(ledger, most=1, max_epsilon_if_broken=5.5) == 1
        later = rounds_charged(ledger, study="c" * 64)
    with Ledger.open(tmp_path / "free.sqlite", SECRET) as ledger:
        assert rounds_charged(ledger, most=1) == 1
        assert later < rounds_charged(ledger, study="c" * 64) == 6


def test_limit__a_broken_promise_protects_no_better():
    with pytest.raises(ValidationError, match="2 is below epsilon 3"):
        Limit(epsilon=3.0, delta=1e-3, epsilon_if_broken=2.0)
