"""Text from outside writes no line of its own anywhere."""

import io
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcall.shown import OneLine, shown

HOSTILE = "ok\r\n2026-01-01 00:00 site south: accepted\x1b[2J\x07\u202e\u2028\x85 \ud800"


@given(st.text(st.characters(exclude_categories=[])), st.integers(2, 50))
def test_shown__is_one_printable_line_of_bounded_length(text: str, most: int) -> None:
    said = shown(text, most)
    assert said.isprintable()
    assert len(said) <= most
    said.encode()


def test_shown__keeps_what_is_harmless() -> None:
    for text in ("round 3: ε = 2.9 ± .1 for Österreich-1", "東京 / 北海道", ""):
        assert shown(text) == text


@pytest.mark.parametrize("log_it", [lambda log: log.info("site %s", HOSTILE), lambda log: log.info(HOSTILE)])
def test_one_line__a_record_is_one_line(log_it) -> None:
    stream = io.StringIO()
    log = logging.Logger("test")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneLine("%(asctime)s %(message)s"))
    log.addHandler(handler)
    log_it(log)
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue()[:-1].isprintable()
    log.info("x" * 100_000)
    assert len(stream.getvalue()) < 3_000


def test_one_line__a_traceback_stays_readable() -> None:
    stream = io.StringIO()
    log = logging.Logger("test")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneLine("%(message)s"))
    log.addHandler(handler)
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        log.exception("failed")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "failed"
    assert all(line.isprintable() for line in lines)
