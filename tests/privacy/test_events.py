import pytest

from fedcall.errors import FedcallError
from fedcall.privacy.events import Event, round_event
from fedcall.privacy.terms import PrivacyTerms


def test_round_event__holds_what_the_terms_say():
    event = round_event(PrivacyTerms(noise_multiplier=1.5, sampling_rate=0.1, steps_per_round=7))
    assert event == Event(unit="patient", mechanism="gaussian", noise_multiplier=1.5, sampling_rate=0.1, steps=7)


def test_from_json__returns_the_event_written():
    event = round_event(PrivacyTerms(noise_multiplier=1.1, sampling_rate=0.3))
    assert Event.from_json(event.to_json()) == event


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"noise_multiplier": -1}, "noise_multiplier"),
        ({"sampling_rate": 1.5}, "sampling_rate"),
        ({"steps": 0}, "steps"),
        ({"mechanism": "cauchy"}, "mechanism"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_from_json__names_what_is_wrong(change, named):
    import json

    content = json.loads(round_event(PrivacyTerms()).to_json()) | change
    with pytest.raises(FedcallError, match=named):
        Event.from_json(json.dumps(content))
