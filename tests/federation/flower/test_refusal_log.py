"""The gate's log of refusals: a few of each address and minute, the rest as one number."""

import logging

import pytest

from fedcall.federation.flower.refusal_log import RefusalLog


@pytest.fixture
def clock():
    return [0.0]


@pytest.fixture
def told(clock, caplog):
    caplog.set_level(logging.INFO)
    refusals = RefusalLog(lambda: clock[0])

    def tell(address: str, times: int = 1) -> list[str]:
        caplog.clear()
        for _ in range(times):
            refusals.tell(address, "/x", 403, "not for sites")
        return [record.getMessage() for record in caplog.records]

    return tell


def test_refusal_log__tells_a_few_of_each_address(told):
    one = told("10.0.0.1", 100)
    assert 0 < len(one) < 50
    assert told("10.0.0.1") == [], "of this address enough was told"
    assert told("10.0.0.2") == ["10.0.0.2 /x: 403 not for sites"], "another one is told all the same"


def test_refusal_log__tells_a_bounded_number_in_all(told):
    lines = sum(len(told(f"10.0.{number // 250}.{number % 250}", 100)) for number in range(500))
    assert lines < 1000


def test_refusal_log__begins_anew_each_minute_and_counts_what_it_left_out(told, clock):
    first = len(told("10.0.0.1", 100))
    clock[0] = 61.0
    again = told("10.0.0.1")
    assert again == [f"{100 - first} more requests were refused within a minute", "10.0.0.1 /x: 403 not for sites"]
    clock[0] = 122.0
    assert told("10.0.0.1") == ["10.0.0.1 /x: 403 not for sites"], "nothing was left out in that minute"
