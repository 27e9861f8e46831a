"""What ../shared/promise.md asks of the ledger, point by point; each test is named after its point."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fedcall.errors import FedcallError, PrivacyRefusal
from fedcall.privacy.accounting.epsilon import compose
from fedcall.privacy.accounting.filter import cumulative_epsilon
from fedcall.privacy.events import Event
from fedcall.privacy.ledger.ledger import Ledger, Member, ReleaseRequest
from fedcall.privacy.ledger.limits import Limit, limit_file, read_limit

SECRET = bytes(range(32))
OLD = Path(__file__).parents[2] / "golden/ledger_28a9b9b.sqlite"  # written by that commit, with SECRET
EVENT = Event(unit="patient", mechanism="gaussian", noise_multiplier=2.0, sampling_rate=1.0, steps=4)  # ε 3.14 a round
NAMES = ("Ann", "Bob", "Cyd")
REQUEST = ReleaseRequest("a" * 64, "north", 1, EVENT, 1e-3, 4.0, NAMES, "f" * 64)


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite", SECRET) as opened:
        yield opened


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "old.sqlite"
    shutil.copy(OLD, path)
    with Ledger.open_to_read(path) as opened:
        rows = list(opened.rows())
    path.with_name("old.sqlite.head").write_text(f'{{"number": {rows[-1].number}, "digest": "{rows[-1].digest}"}}\n')
    with Ledger.open(path, SECRET) as opened:
        yield opened


def test_promise_1__whoever_has_spent_the_budget_is_left_out_without_a_word(ledger):
    ledger.reserve(replace(REQUEST, study="b" * 64, patients=("Ann",)))
    with_ann = ledger.reserve(REQUEST)
    assert with_ann.state == "reserved"
    assert with_ann.charged == {"Bob", "Cyd"}
    assert with_ann.epsilon == compose([(EVENT, 1)], 1e-3), "this study's own rounds, not what Ann spent elsewhere"
    everybody_spent = ledger.reserve(replace(REQUEST, study="c" * 64, patients=("Ann",)))
    assert (everybody_spent.state, everybody_spent.charged) == ("reserved", frozenset())
    assert everybody_spent.sentence == with_ann.sentence
    assert ledger.epsilon(["Ann"], 1e-3, "patient").pld == compose([(EVENT, 1)], 1e-3).pld, "she is not charged"
    assert ledger.exhausted("a" * 64) == {1: 1}


def test_promise_1__who_is_left_out_is_decided_once(ledger):
    """A rerun after later charges elsewhere trains on the same people, or it would be a second release."""
    first = ledger.reserve(REQUEST)
    assert first.charged == set(NAMES)
    left_out = replace(REQUEST, study="b" * 64)
    assert ledger.reserve(left_out).charged == frozenset()
    assert ledger.reserve(REQUEST).charged == first.charged
    again = ledger.reserve(left_out)
    assert (again.state, again.charged) == ("reserved", frozenset())


def test_promise_2__the_ledger_charges_people_whatever_their_rows_are_called(ledger):
    ledger.reserve(replace(REQUEST, patients=(Member("scan1", "Ann"),)))
    again = replace(REQUEST, study="b" * 64, patients=(Member("renamed", "Ann"), Member("new", "Bob")))
    assert ledger.reserve(again).charged == {"new"}


def test_promise_2__one_person_in_two_rows_is_refused(ledger):
    twice = (Member("blood", "Ann"), Member("saliva", "Ann"))
    with pytest.raises(FedcallError, match=r"'blood' and 'saliva' are one person .* merged"):
        ledger.reserve(replace(REQUEST, patients=twice))
    assert not list(ledger.rows())


def test_promise_2__the_same_data_under_another_person_is_refused(ledger):
    ledger.reserve(replace(REQUEST, patients=(Member("a", "Ann", ("reads of Ann",)),), max_epsilon=8.0))
    for study in ("a" * 64, "b" * 64):
        renamed = replace(REQUEST, study=study, round=2, patients=(Member("z", "Zoe", ("reads of Ann",)),))
        with pytest.raises(PrivacyRefusal, match=r"patient 'z': .* knows this data as another person's"):
            ledger.reserve(replace(renamed, max_epsilon=8.0))
        with pytest.raises(PrivacyRefusal, match="knows this data as another person's"):
            ledger.refuse_same_data(renamed.members)
    copied = (Member("x", "Xia", ("copied",)), Member("y", "Yan", ("copied",)))
    with pytest.raises(PrivacyRefusal, match="patients 'x' and 'y' have the same data"):
        ledger.reserve(replace(REQUEST, round=2, patients=copied, max_epsilon=8.0))
    assert [row.kind for row in ledger.rows()] == ["reserve"]
    again = replace(REQUEST, round=2, patients=(Member("a", "Ann", ("reads of Ann", "more")),), max_epsilon=8.0)
    assert ledger.reserve(again).charged == {"a"}


def test_promise_2__a_column_person_that_comes_later_loses_no_charge(ledger):
    ledger.reserve(REQUEST)  # charged under the names of the rows
    named = tuple(Member(name, f"record {name}") for name in NAMES)
    assert ledger.reserve(replace(REQUEST, study="b" * 64, patients=named)).charged == frozenset()
    moved = tuple(Member(f"new {name}", f"record {name}") for name in NAMES)
    assert ledger.reserve(replace(REQUEST, study="c" * 64, patients=moved)).charged == frozenset()
    [(standing, people)] = ledger.standings().items()
    assert (people, standing.charges) == (3, (("a" * 64, EVENT, 1),)), "nobody is counted twice"


def test_promise_2__a_charged_person_is_never_public(ledger):
    ledger.reserve(replace(REQUEST, patients=(Member("a", "Ann", ("reads",)), Member("s", "Sim", (), False))))
    public = [Member("ann", "Ann"), Member("copy", "somebody", ("reads",)), Member("Sim", "Sim"), Member("x", "Xia")]
    assert ledger.charged_private(public) == public[:2]


def test_promise_3__a_cap_once_agreed_holds_for_ever(ledger):
    ledger.reserve(REQUEST)
    assert ledger.reserve(replace(REQUEST, study="b" * 64, max_epsilon=20.0)).charged == frozenset()
    assert compose([(EVENT, 1)], 0.05).pld < 2
    loose = replace(REQUEST, study="c" * 64, delta=0.05)
    assert ledger.reserve(loose).charged == frozenset(), "the first cap holds at its own delta"
    uncapped = replace(REQUEST, study="d" * 64, max_epsilon=None)
    assert ledger.reserve(uncapped).charged == frozenset()
    assert ledger.reserve(replace(uncapped, round=2, patients=("Dan",))).charged == {"Dan"}


def test_promise_3__the_hospitals_own_limit_holds_whatever_a_study_allows(ledger):
    limit = Limit(epsilon=4.0, delta=1e-3)
    answers = [ledger.reserve(replace(REQUEST, round=number, max_epsilon=100.0, limit=limit)) for number in (1, 2)]
    assert [answer.state for answer in answers] == ["reserved", "reserved"]
    assert [len(answer.charged) for answer in answers] == [3, 0]
    lifted = replace(REQUEST, round=3, max_epsilon=100.0, limit=None)
    assert ledger.reserve(lifted).charged == frozenset(), "who was charged under a limit stays under it"
    example = replace(lifted, round=4, event=EVENT.model_copy(update={"unit": "example"}))
    assert ledger.reserve(example).charged == frozenset(), "an example's epsilon bounds no person"


def test_promise_3__the_limit_stands_in_a_file_beside_the_ledger(tmp_path):
    path = tmp_path / "ledger.sqlite"
    assert read_limit(path) is None
    limit_file(path).write_text("epsilon: 6\ndelta: 1.0e-5\n")
    assert read_limit(path) == Limit(epsilon=6.0, delta=1e-5)
    limit_file(path).write_text("epsilon: 6\ndelta: 2\n")
    with pytest.raises(FedcallError, match=r"limit\.yaml:2: delta"):
        read_limit(path)


def test_promise_10__from_the_second_study_on_an_rdp_filter_decides(ledger):
    two = compose([(EVENT, 2)], 1e-3)
    cap = (two.pld + two.rdp) / 2  # PLD fits, RDP does not
    assert [len(ledger.reserve(replace(REQUEST, round=n, max_epsilon=cap)).charged) for n in (1, 2)] == [3, 3]
    others = replace(REQUEST, patients=("Dan", "Eve"), study="b" * 64, max_epsilon=cap)
    assert len(ledger.reserve(others).charged) == 2
    assert len(ledger.reserve(replace(others, study="c" * 64)).charged) == 0


def test_promise_10__a_later_cap_pays_for_its_order():
    charges = [("a" * 64, EVENT, 1), ("b" * 64, EVENT, 1)]
    first, later = (cumulative_epsilon(charges, 1e-3, cap=8.0, agreed_first=agreed).pld for agreed in (True, False))
    assert compose([(EVENT, 2)], 1e-3).pld < first < later


def test_promise_2__a_family_is_charged_for_every_round_that_one_of_them_took_part_in(ledger):
    ledger.reserve(replace(REQUEST, patients=("Ann", "Cyd"), max_epsilon=None))
    ledger.reserve(replace(REQUEST, round=2, patients=("Bob",), max_epsilon=None))
    ledger.reserve(replace(REQUEST, study="b" * 64, patients=("Ann", "Bob"), max_epsilon=None))
    ledger.reserve(replace(REQUEST, study="b" * 64, round=2, patients=("Cyd",), max_epsilon=None))
    family, stranger = ledger.charges_of_groups([("Ann", "Bob"), ("Dan",)])
    assert family == (("a" * 64, EVENT, 2), ("b" * 64, EVENT, 1))
    assert stranger == ()


def test_promise__an_old_ledger_is_carried_over_without_losing_a_charge(old):
    assert old.verify() is None
    assert sorted((people, len(one.charges)) for one, people in old.standings().items()) == [(1, 2), (2, 2)]
    released = old.reserve(replace(REQUEST, max_epsilon=5.0))
    assert (released.state, released.artefact, released.charged) == ("reserved", None, set(NAMES))  # no artefact copied
    greedy = replace(REQUEST, study="d" * 64, max_epsilon=50.0, patients=(*NAMES, "Dan"))
    assert old.reserve(greedy).charged == {"Dan"}, "the old cap of 5 holds for ever"
    renamed = tuple(Member(f"new {name}", name) for name in NAMES)
    assert old.reserve(replace(greedy, study="e" * 64, patients=renamed)).charged == frozenset()
    assert old.charged_private([Member("ann", "Ann"), Member("x", "Xia")]) == [Member("ann", "Ann")]
    assert old.verify() is None


def test_promise__an_older_fedcall_refuses_what_it_would_overlook(ledger):
    """It looks for every list of people in `cohorts` and refuses a ledger that lacks one."""
    ledger.reserve(REQUEST)
    assert ledger._database.execute("SELECT count(*) FROM cohorts").fetchone() == (0,)
