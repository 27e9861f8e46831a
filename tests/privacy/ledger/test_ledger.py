"""Invariants 5 and 6: reserve before release; the budget is per patient, cumulative, and never passed."""

import errno
import json
import math
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import textwrap
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcall.errors import FedcallError, PrivacyRefusal
from fedcall.privacy.accounting.epsilon import compose
from fedcall.privacy.accounting.filter import cumulative_epsilon
from fedcall.privacy.events import Event
from fedcall.privacy.ledger.file import connect
from fedcall.privacy.ledger.ledger import Ledger, ReleaseRequest, Standing

SECRET = bytes(range(32))
EVENT = Event(unit="patient", mechanism="gaussian", noise_multiplier=2.0, sampling_rate=1.0, steps=4)  # ε 3.14 a round
REQUEST = ReleaseRequest(
    study="a" * 64,
    site="north",
    round=1,
    event=EVENT,
    delta=1e-3,
    max_epsilon=8.0,
    patients=("Ann", "Bob", "Cyd"),
    inputs="f" * 64,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "private" / "ledger.sqlite"


@pytest.fixture
def ledger(path):
    with Ledger.open(path, SECRET) as opened:
        yield opened


def spent(ledger, request=REQUEST):
    return ledger.epsilon(request.patients, request.delta, request.event.unit).pld


def run_round(ledger, request, artefact=b"update"):
    reservation = ledger.reserve(request)
    if reservation.state == "reserved":
        ledger.release(request, artefact)
    return reservation


def tamper(path, statement, *values):
    database = sqlite3.connect(path)
    database.execute(statement, values)
    database.commit()
    database.close()


def test_reserve__charges_the_whole_round_before_training(ledger):
    assert spent(ledger) == 0
    assert ledger.reserve(REQUEST).state == "reserved"
    assert spent(ledger) == compose([(EVENT, 1)], 1e-3).pld


def test_reserve__a_rerun_with_the_same_inputs_costs_nothing(ledger):
    first = ledger.reserve(REQUEST)
    again = ledger.reserve(REQUEST)
    assert (again.state, again.epsilon) == ("reserved", first.epsilon)
    assert [row.kind for row in ledger.rows()] == ["reserve"]


def test_reserve__after_release_returns_the_stored_artefact(ledger):
    run_round(ledger, REQUEST, b"the update and its claim")
    again = ledger.reserve(REQUEST)
    assert again.state == "released"
    assert again.artefact.read_bytes() == b"the update and its claim"
    assert [row.kind for row in ledger.rows()] == ["reserve", "release"]


def test_reserve__order_of_patients_does_not_matter(ledger):
    request = replace(REQUEST, patients=tuple(f"p{index}" for index in range(20)))
    ledger.reserve(request)
    assert ledger.reserve(replace(request, patients=request.patients[::-1])).state == "reserved"
    assert len(list(ledger.rows())) == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"inputs": "e" * 64}, "inputs"),
        ({"patients": ("Ann", "Bob")}, "cohort"),
        ({"event": EVENT.model_copy(update={"steps": 5})}, "event"),
        ({"delta": 1e-4}, "delta"),
        ({"max_epsilon": 9.0}, "max_epsilon"),
    ],
)
def test_reserve__other_inputs_under_the_same_release_are_refused(ledger, change, named):
    run_round(ledger, REQUEST)
    with pytest.raises(PrivacyRefusal, match=rf"charged for other inputs \(different: {named}\)") as refusal:
        ledger.reserve(replace(REQUEST, **change))
    assert refusal.value.exit_code == 3
    assert len(list(ledger.rows())) == 2


def test_reserve__another_round_study_or_site_is_another_release(ledger):
    for change in ({"round": 2}, {"study": "b" * 64}, {"site": "south"}):
        run_round(ledger, replace(REQUEST, max_epsilon=100.0, **change))
    charges = [("a" * 64, EVENT, 2), ("b" * 64, EVENT, 1)]
    assert spent(ledger) == pytest.approx(cumulative_epsilon(charges, 1e-3).pld)
    assert spent(ledger) > compose([(EVENT, 3)], 1e-3).pld


def test_reserve__the_cap_is_never_passed(ledger):
    states = [run_round(ledger, replace(REQUEST, round=round_)).state for round_ in range(1, 8)]
    allowed = states.count("reserved")
    assert states == ["reserved"] * allowed + ["withheld"] * (7 - allowed)
    assert 1 < allowed < 7
    assert compose([(EVENT, allowed)], 1e-3).pld <= 8.0 < compose([(EVENT, allowed + 1)], 1e-3).pld
    assert spent(ledger) == compose([(EVENT, allowed)], 1e-3).pld
    assert ledger.verify() is None


def test_reserve__the_cap_may_be_reached_and_not_passed_by_the_last_bit(ledger):
    cost = compose([(EVENT, 1)], 1e-3).pld
    assert ledger.reserve(replace(REQUEST, max_epsilon=math.nextafter(cost, 0))).state == "withheld"
    assert ledger.reserve(replace(REQUEST, max_epsilon=cost)).state == "reserved"


def test_reserve__withheld_says_why_and_charges_nothing(ledger):
    request = replace(REQUEST, max_epsilon=1.0)
    for _ in range(2):
        reservation = ledger.reserve(request)
        assert reservation.state == "withheld"
        assert "the study's own rounds would reach epsilon 3.139, above max_epsilon 1 at delta" in reservation.sentence
    assert [row.kind for row in ledger.rows()] == ["withhold"]
    assert spent(ledger) == 0
    with pytest.raises(PrivacyRefusal, match="never reserved"):
        ledger.release(request, b"update")


@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),  # study
            st.integers(1, 3),  # round
            st.lists(st.sampled_from(("Ann", "Bob", "Cyd")), min_size=1, unique=True).map(sorted).map(tuple),
            st.sampled_from([2.0, 5.0]),  # noise multiplier
            st.sampled_from([(6.0, 1e-3), (4.0, 1e-2), (9.0, 1e-4), (None, 1e-3)]),  # cap and its delta
        ),
        max_size=10,
    )
)
def test_reserve__no_history_of_requests_passes_any_limit_of_any_person(requests):
    """Invariant 6, against a bookkeeping of our own, a person at a time."""
    charged = {name: Standing() for name in REQUEST.patients}
    seen = {}
    with tempfile.TemporaryDirectory() as folder, Ledger.open(Path(folder) / "ledger", SECRET) as ledger:
        for study, round_, patients, multiplier, (cap, delta) in requests:
            event = EVENT.model_copy(update={"noise_multiplier": multiplier})
            request = replace(
                REQUEST, study=study * 64, round=round_, patients=patients, event=event, max_epsilon=cap, delta=delta
            )
            if seen.get((study, round_), request) != request:
                with pytest.raises(PrivacyRefusal):
                    ledger.reserve(request)
                continue
            answer = ledger.reserve(request)
            assert answer.state == "reserved" or (study, round_) not in seen
            if answer.state == "reserved" and (study, round_) not in seen:
                seen[study, round_] = request
                after = {name: charged[name].charged(request.study, event, 1, request.limits) for name in patients}
                assert answer.charged == {name for name in patients if after[name].is_within_limits()}
                charged |= {name: after[name] for name in answer.charged}
            for patient, standing in charged.items():
                assert standing.is_within_limits()
                expected = cumulative_epsilon(standing.charges, 1e-3).pld
                assert ledger.epsilon([patient], 1e-3, "patient").pld == pytest.approx(expected)
        assert ledger.verify() is None


def test_release__a_full_disk_is_one_line_and_loses_nothing(ledger, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "artefact")

    ledger.reserve(REQUEST)
    monkeypatch.setattr("fedcall.privacy.ledger.ledger.write_bytes", full)
    with pytest.raises(FedcallError, match="artefact: No space left on device; make room"):
        ledger.release(REQUEST, b"update")
    monkeypatch.undo()
    assert run_round(ledger, REQUEST).state == "reserved"
    assert ledger.reserve(REQUEST).artefact.read_bytes() == b"update"


def test_reserve__different_mechanisms_are_composed_event_by_event(ledger):
    laplace = Event(unit="patient", mechanism="laplace", noise_multiplier=8.0, sampling_rate=0.5, steps=2)
    run_round(ledger, replace(REQUEST, study="b" * 64, event=laplace))
    assert len(ledger.reserve(REQUEST).charged) == 3
    expected = cumulative_epsilon([("b" * 64, laplace, 1), ("a" * 64, EVENT, 1)], 1e-3).pld
    assert spent(ledger) == pytest.approx(expected)


@pytest.mark.parametrize("change", [{"noise_multiplier": 0.0}, {"unit": "example"}])
def test_reserve__history_without_a_patient_level_bound_leaves_people_out_for_good(ledger, change):
    past = replace(REQUEST, study="b" * 64, event=EVENT.model_copy(update=change), max_epsilon=None)
    assert len(ledger.reserve(past).charged) == 3
    assert ledger.reserve(replace(REQUEST, patients=(*REQUEST.patients, "Dan"))).charged == {"Dan"}


def test_reserve__patient_level_history_counts_as_substitution_for_an_example(ledger):
    run_round(ledger, replace(REQUEST, max_epsilon=None))
    example = EVENT.model_copy(update={"unit": "example"})
    assert len(ledger.reserve(replace(REQUEST, round=2, event=example, max_epsilon=None)).charged) == 3
    expected = compose([(EVENT, 1), (example, 1)], 1e-3, unit="example").pld
    assert ledger.epsilon(REQUEST.patients, 1e-3, "example").pld == expected


def test_reserve__needs_patients(ledger):
    with pytest.raises(FedcallError, match="at least one patient"):
        ledger.reserve(replace(REQUEST, patients=()))


def test_release__other_inputs_than_were_charged_are_refused(ledger):
    ledger.reserve(REQUEST)
    with pytest.raises(PrivacyRefusal, match=r"charged for other inputs \(different: cohort\)"):
        ledger.release(replace(REQUEST, patients=("Ann", "Dan")), b"update")
    assert [row.kind for row in ledger.rows()] == ["reserve"]
    assert not list(ledger.path.parent.rglob("*.artefacts/*"))


def test_release__a_second_artefact_is_refused(ledger):
    run_round(ledger, REQUEST, b"first")
    stored = ledger.release(REQUEST, b"first")
    assert stored.read_bytes() == b"first"
    with pytest.raises(PrivacyRefusal, match="released as another artefact"):
        ledger.release(REQUEST, b"second")
    assert ledger.reserve(REQUEST).artefact.read_bytes() == b"first"


@pytest.mark.parametrize("damage", [lambda stored: stored.unlink(), lambda stored: stored.write_bytes(b"half")])
def test_release__a_lost_artefact_may_only_be_made_again_as_it_was(ledger, damage):
    run_round(ledger, REQUEST, b"first")
    damage(ledger.reserve(REQUEST).artefact)
    assert ledger.reserve(REQUEST).state == "reserved"
    with pytest.raises(PrivacyRefusal, match="another artefact"):
        ledger.release(REQUEST, b"second")
    ledger.release(REQUEST, b"first")
    assert ledger.reserve(REQUEST).artefact.read_bytes() == b"first"
    assert [row.kind for row in ledger.rows()] == ["reserve", "release"]


def test_ledger__holds_no_names_and_is_readable_by_its_owner_only(ledger, path):
    run_round(ledger, replace(REQUEST, patients=("Annabella-Example",)))
    ledger.close()
    for file in path.parent.rglob("*"):
        if file.is_file():
            assert b"Annabella" not in file.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.with_name("ledger.sqlite.artefacts").stat().st_mode) == 0o700


def test_ledger__pseudonyms_need_the_secret(path, tmp_path):
    cohorts = []
    for name, secret in (("one", SECRET), ("two", bytes(32))):
        with Ledger.open(tmp_path / name, secret) as ledger:
            ledger.reserve(REQUEST)
            cohorts.append(next(ledger.rows()).cohort)
    assert cohorts[0] != cohorts[1]


def test_exposures__group_patients_by_history(ledger):
    run_round(ledger, REQUEST)
    run_round(ledger, replace(REQUEST, round=2, patients=("Ann", "Dan")))
    exposures = ledger.exposures(1e-3)
    assert sorted((one.patients, one.releases) for one in exposures) == [(1, 2), (3, 1)]
    assert exposures[0].patient == compose([(EVENT, 2)], 1e-3)


def test_verify__an_untouched_ledger_is_good_and_its_head_moves(ledger, path):
    heads = {ledger.head}
    for round_ in (1, 2):
        run_round(ledger, replace(REQUEST, round=round_))
        heads.add(ledger.head)
    assert len(heads) == 3
    assert ledger.verify() is None
    with Ledger.open_to_read(path) as reader:
        assert reader.verify() is None
        assert reader.head == ledger.head


TAMPERING = {
    "edited event": ("UPDATE rows SET event = replace(event, '2', '9') WHERE number = 3", "row 3 was edited"),
    "edited delta": ("UPDATE rows SET delta = '0.5' WHERE number = 1", "row 1 was edited"),
    "deleted in the middle": ("DELETE FROM rows WHERE number = 3", "row 3 is missing"),
    "deleted first": ("DELETE FROM rows WHERE number = 1", "row 1 is missing"),
    "truncated": ("DELETE FROM rows WHERE number >= 5", "row 5 is missing"),
    "last row cut off": ("DELETE FROM rows WHERE number = 6", "row 6 is missing"),
    "emptied": ("DELETE FROM rows", "row 1 is missing"),
    "people edited": ("UPDATE memberships SET document = replace(document, 'limit', 'x')", "list of patients of row 1"),
    "people deleted": ("DELETE FROM memberships", "list of patients of row 1"),
    "a name edited": ("UPDATE registry SET value = 'x' WHERE number = 2", "list of patients of row 1"),
    "a name deleted": ("DELETE FROM registry WHERE number = 3", "list of patients of row 1"),
    "a name added": ("INSERT INTO registry VALUES (99, 'person', 3, 'x')", "list of patients of row 1"),
}


@pytest.mark.parametrize(("statement", "named"), TAMPERING.values(), ids=TAMPERING.keys())
def test_verify__names_the_first_bad_row_and_training_refuses(ledger, path, statement, named):
    for round_ in (1, 2, 3):
        run_round(ledger, replace(REQUEST, round=round_))
    tamper(path, statement)
    assert named in ledger.verify().sentence
    with Ledger.open_to_read(path) as reader:  # nobody needs the secret to see it
        assert named in reader.verify().sentence
    for action in (lambda: ledger.reserve(replace(REQUEST, round=4)), lambda: ledger.release(REQUEST, b"update")):
        with pytest.raises(PrivacyRefusal, match=named):
            action()


def test_verify__a_whole_chain_rewritten_without_the_secret_is_noticed(ledger, path, tmp_path):
    run_round(ledger, REQUEST)
    with Ledger.open(tmp_path / "forged", bytes(32)) as forged:
        run_round(forged, replace(REQUEST, event=EVENT.model_copy(update={"noise_multiplier": 50.0})))
        forged_rows = list(forged.rows())
    database = sqlite3.connect(path)
    database.execute("ATTACH ? AS forged", [str(tmp_path / "forged")])
    database.executescript(
        "DELETE FROM rows; DELETE FROM registry; INSERT INTO rows SELECT * FROM forged.rows;"
        "INSERT INTO registry SELECT * FROM forged.registry; INSERT INTO memberships SELECT * FROM forged.memberships"
    )
    database.close()
    newest = forged_rows[-1]
    path.with_name("ledger.sqlite.head").write_text(json.dumps({"number": newest.number, "digest": newest.digest}))
    with Ledger.open_to_read(path) as reader:
        assert reader.verify() is None  # a chain of its own, consistent
    assert "not written with this site's secret" in ledger.verify().sentence


def test_verify__an_edited_row_with_a_fitting_digest_no_longer_leads_to_the_next(ledger, path):
    for round_ in (1, 2):
        run_round(ledger, replace(REQUEST, round=round_))
    cheaper = replace(list(ledger.rows())[2], event=EVENT.model_copy(update={"noise_multiplier": 50.0}).to_json())
    statement = "UPDATE rows SET event = ?, digest = ? WHERE number = 3"
    tamper(path, statement, cheaper.event, cheaper.content_digest)
    with Ledger.open_to_read(path) as reader:
        assert reader.verify().sentence == "row 4 does not continue the row before it"
    assert ledger.verify().sentence == "row 3 was not written with this site's secret"


def test_verify__a_ledger_that_went_another_way_is_not_the_one_its_head_names(ledger, path, tmp_path):
    """Two copies of a ledger were both charged; one of them comes back over the other, and every row has its seal."""
    run_round(ledger, REQUEST)
    with closing(sqlite3.connect(path)) as here, closing(sqlite3.connect(tmp_path / "copy")) as there:
        here.backup(there)
    shutil.copy(path.with_name("ledger.sqlite.head"), tmp_path / "copy.head")
    run_round(ledger, replace(REQUEST, round=2))
    with Ledger.open(tmp_path / "copy", SECRET) as copy:
        run_round(copy, replace(REQUEST, study="b" * 64))
    with closing(sqlite3.connect(tmp_path / "copy")) as there, closing(sqlite3.connect(path)) as here:
        there.backup(here)
    assert ledger.verify().sentence == "row 4 is not the one that ledger.sqlite.head names"


@pytest.mark.parametrize("content", [None, "not JSON", '{"number": 1, "digest": "0"}'])
def test_verify__a_head_file_lost_edited_or_old_is_noticed(ledger, path, content):
    for round_ in (1, 2):
        run_round(ledger, replace(REQUEST, round=round_))
    head = path.with_name("ledger.sqlite.head")
    head.unlink() if content is None else head.write_text(content)
    assert ledger.verify() is not None


def test_open__a_charge_survives_a_power_cut(path):
    """A write-ahead log is synced at every commit only with FULL (https://sqlite.org/pragma.html#pragma_synchronous)."""
    with closing(connect(path)) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_open__a_file_that_is_no_ledger_is_a_users_mistake(tmp_path):
    other = tmp_path / "notes.txt"
    other.write_text("not a database, but long enough to look like one " * 100)
    with pytest.raises(FedcallError, match=r"notes\.txt: cannot be opened as a ledger"):
        Ledger.open(other, SECRET)
    with pytest.raises(FedcallError, match="no such ledger"):
        Ledger.open_to_read(tmp_path / "missing")


def child(path, body):
    """Start a Python process that has REQUEST and the open ledger at hand, and runs `body`."""
    script = f"""
        import json, os, signal, sys
        from dataclasses import replace
        from fedcall.privacy.ledger.ledger import Ledger, ReleaseRequest
        from fedcall.privacy.events import Event
        REQUEST = ReleaseRequest("a" * 64, "north", 1, Event.from_json({EVENT.to_json()!r}), 1e-3, 8.0,
                                 ("Ann", "Bob", "Cyd"), "f" * 64)
        ledger = Ledger.open({str(path)!r}, bytes(range(32)))
    """
    source = textwrap.dedent(script) + textwrap.dedent(body)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, env=environment, text=True)


CRASHES = {
    "before the charge": ("ledger._append = lambda *a: DIE()", 0),
    "inside the charge": ("append = ledger._append; ledger._append = lambda *a: (append(*a), DIE())", 0),
    "after the charge, before the head file": ("ledger._update_head = lambda: DIE()", 1),
    "in training": ("train = DIE", 1),
    "before the artefact is in place": (
        "import fedcall.privacy.ledger.ledger as m; m.write_bytes = lambda *a: DIE()",
        1,
    ),
    "after the artefact, before the release row": (
        "append = ledger._append; ledger._append = lambda k, *a: DIE() if k == 'release' else append(k, *a)",
        1,
    ),
}


@pytest.mark.parametrize(("patch", "charges"), CRASHES.values(), ids=CRASHES.keys())
def test_ledger__kill_9_at_any_moment_charges_once(path, patch, charges):
    killed = child(
        path,
        f"""
        DIE = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
        train = lambda: None
        {patch}
        ledger.reserve(REQUEST)
        train()
        ledger.release(REQUEST, b"update")
        """,
    )
    killed.communicate(timeout=600)
    assert killed.returncode == -signal.SIGKILL
    with Ledger.open(path, SECRET) as ledger:
        assert ledger.verify() is None
        assert sum(row.kind == "reserve" for row in ledger.rows()) == charges
        assert run_round(ledger, REQUEST).state == "reserved"
        assert ledger.reserve(REQUEST).artefact.read_bytes() == b"update"
        assert [row.kind for row in ledger.rows()] == ["reserve", "release"]
        assert ledger.verify() is None


def test_ledger__two_processes_at_once_never_pass_the_cap_together(path):
    """Each alone would fit all its rounds' share; only serialised charges keep the sum within the cap."""
    body = """
        answers = [ledger.reserve(replace(REQUEST, study=STUDY * 64, round=r)) for r in range(1, 5)]
        print(json.dumps([len(answer.charged) for answer in answers]))
    """
    workers = [child(path, f"STUDY = {name!r}\n" + textwrap.dedent(body)) for name in ("b", "c")]
    charged = [json.loads(worker.communicate(timeout=600)[0].splitlines()[-1]) for worker in workers]
    assert {*charged[0], *charged[1]} <= {0, 3}
    with Ledger.open(path, SECRET) as ledger:
        assert ledger.verify() is None
        [(standing, people)] = ledger.standings().items()
        assert people == 3
        assert sum(count for _, _, count in standing.charges) == sum(map(sum, charged)) // 3 < 8
        assert standing.is_within_limits()


def test_ledger__the_same_round_in_two_processes_is_charged_once(path):
    workers = [child(path, "print(ledger.reserve(REQUEST).state)") for _ in range(2)]
    assert [worker.communicate(timeout=600)[0].strip() for worker in workers] == ["reserved", "reserved"]
    with Ledger.open(path, SECRET) as ledger:
        assert [row.kind for row in ledger.rows()] == ["reserve"]
