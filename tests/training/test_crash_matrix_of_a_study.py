"""kill -9 at each moment of a whole study: reserve, train, write, upload, judge, verdict. A rerun is the same releases.

The study has one round and one site, and its aggregator's state lies in the same folder. A child dies before the n-th
time that anything is made durable (a file renamed into place, or synced), or between two steps of the ledger; then
everything is run again from the start.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from crashes import die, dying
from fedcall.documents import read_unverified
from fedcall.privacy.ledger.ledger import Ledger
from fedcall.study.judgement import Judgement
from fedcall.training import judging
from study_chain import RELEASES, Chain, write_site

AT_ONCE = 6
"""Of the moments at which something becomes durable, each test takes every so many."""
PARTS = range(AT_ONCE) if "FEDCALL_CRASH_POINTS" in os.environ else (1,)
"""All moments, as before a release, or every sixth."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Chain, int]:
    """Return a study that nobody killed, and how many times something was made durable in it."""
    chain, made = Chain(source, tmp_path_factory.mktemp("whole")), []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("fsync", "replace"):
            original = getattr(os, name)
            patch.setattr(
                os, name, lambda *given, original=original, **more: made.append(1) or original(*given, **more)
            )
        chain.run()
    assert chain.rows() == RELEASES
    return chain, len(made)


def killed(chain: Chain, prepare: Callable[[], None]) -> None:
    def child() -> None:
        prepare()
        chain.run()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL


def check_and_finish(chain: Chain, whole: Chain) -> None:
    """What left the site was charged before; a rerun leaves it as it was, and charges everything once."""
    rows, left = chain.rows(), chain.left()
    assert rows == RELEASES[: len(rows)]
    for name, row in (("update.safetensors", RELEASES[1]), ("judgement.json", RELEASES[3])):
        assert name not in left or row in rows
    chain.run()
    assert chain.rows() == RELEASES
    after = chain.left()
    assert {name: after[name] for name in left} == left
    assert after["update.safetensors"] == whole.out("update.safetensors").read_bytes()
    totals = {read_unverified(one.out("judgement.json").read_bytes(), Judgement)[0].total for one in (chain, whole)}
    assert len(totals) == 1
    again = chain.left()
    chain.run()
    assert chain.left() == again


def dying_at(moment: int) -> Callable[[], None]:
    """Return a preparation that makes the child die before the n-th time that something is made durable."""

    def prepare() -> None:
        made = []
        for name in ("fsync", "replace"):
            original = getattr(os, name)

            def wrapped(*given, original=original, **more):
                made.append(1)
                if len(made) == moment:
                    die()
                return original(*given, **more)

            setattr(os, name, wrapped)

    return prepare


@pytest.mark.parametrize("part", PARTS)
def test_study__kill_9_wherever_something_becomes_durable(
    source: Path, undisturbed: tuple[Chain, int], tmp_path: Path, part: int
) -> None:
    whole, moments = undisturbed
    assert moments > 20
    for moment in range(1 + part, moments + 1, AT_ONCE):
        chain = Chain(source, tmp_path / str(moment))
        killed(chain, dying_at(moment))
        check_and_finish(chain, whole)


BOUNDARIES = {
    "before the judge's charge": (dying(Ledger, "reserve", "before", 2), RELEASES[:2]),
    "after the judge's charge": (dying(Ledger, "reserve", "after", 2), RELEASES[:3]),
    "after the key folder remembers the judge": (dying(judging, "remember_ledger", "after"), RELEASES[:3]),
    "before the judge's noise": (dying(judging, "noisy_total", "before"), RELEASES[:3]),
    "after the judge's noise": (dying(judging, "noisy_total", "after"), RELEASES[:3]),
    "before the judge's release": (dying(Ledger, "release", "before", 2), RELEASES[:3]),
    "after the judge's release": (dying(Ledger, "release", "after", 2), RELEASES),
    "after the judgement is written": (dying(judging, "write_bytes", "after"), RELEASES),
}


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_judge_models__kill_9_at_a_boundary_loses_nothing_and_charges_once(
    source: Path, undisturbed: tuple[Chain, int], tmp_path: Path, boundary: str
) -> None:
    prepare, expected = BOUNDARIES[boundary]
    chain = Chain(source, tmp_path / "chain")
    killed(chain, prepare)
    assert chain.rows() == expected
    check_and_finish(chain, undisturbed[0])
