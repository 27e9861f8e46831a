"""`fedcall ledger` and `fedcall privacy` through the shell."""

import json
import sqlite3
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fedcall.keys import create_keys, read_secret
from fedcall.privacy.accounting.epsilon import compose
from fedcall.privacy.accounting.filter import cumulative_epsilon
from fedcall.privacy.events import Event
from fedcall.privacy.ledger.ledger import Ledger, ReleaseRequest
from forked import run_forked

FEDCALL = Path(sys.executable).with_name("fedcall")
EVENT = Event(unit="patient", mechanism="gaussian", noise_multiplier=2.0, sampling_rate=1.0, steps=4)


def fedcall(*arguments):
    return run_forked("fedcall", *arguments)


@pytest.fixture
def keys(tmp_path):
    create_keys(tmp_path / "keys", "north")
    return tmp_path / "keys"


@pytest.fixture
def ledger(tmp_path, keys):
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path, read_secret(keys)) as opened:
        for round_, cap in ((1, 8.0), (2, 8.0), (3, 1.0)):
            request = ReleaseRequest("a" * 64, "north", round_, EVENT, 1e-3, cap, ("Ann", "Bob"), "f" * 64)
            if opened.reserve(request).state == "reserved" and round_ == 1:
                opened.release(request, b"update")
    return path


def test_ledger_show__json_holds_states_and_cumulative_epsilon(ledger):
    done = fedcall("ledger", "show", "--ledger", ledger, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert [(one["round"], one["state"]) for one in summary["rounds"]] == [
        (1, "released"),
        (2, "reserved"),
        (3, "withheld"),
    ]
    [exposure] = summary["exposures"]
    expected = compose([(EVENT, 2)], 1e-3)
    assert exposure["patients"] == 2
    assert exposure["epsilon_per_patient"] == {"pld": expected.pld, "rdp": expected.rdp, "by": "PLD"}
    common = compose([(EVENT, 2)], 1e-5)
    assert summary["most_exposed_at_common_delta"]["epsilon_per_patient"]["pld"] == common.pld
    assert "Ann" not in done.stdout


def test_ledger_show__prints_tables(ledger):
    done = fedcall("ledger", "show", "--ledger", ledger)
    assert done.returncode == 0, done.stderr
    assert "withheld" in done.stdout
    own, common = (compose([(EVENT, 2)], delta).pld for delta in (1e-3, 1e-5))
    assert f"most exposed: epsilon {own:.3f} at delta 0.001, {common:.3f} at delta 1e-05, per patient\n" in done.stdout


def test_ledger_show__tables_fit_80_columns_whatever_a_site_is_called(tmp_path, keys):
    path = tmp_path / "long.sqlite"
    event = EVENT.model_copy(update={"unit": "example"})
    with Ledger.open(path, read_secret(keys)) as opened:
        site = "the-university-hospital-of-the-north"
        opened.reserve(ReleaseRequest("a" * 64, site, 1000, event, 1e-3, 8.0, ("Ann",), "f" * 64))
    done = fedcall("ledger", "show", "--ledger", path)
    assert "the-universi… " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_privacy_plan__fits_80_columns():
    done = fedcall("privacy", "plan", "--study", Path(__file__).parents[2] / "config/study.yaml")
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_ledger_show__an_example_level_epsilon_is_no_patients(tmp_path, keys):
    path = tmp_path / "examples.sqlite"
    event = EVENT.model_copy(update={"unit": "example"})
    with Ledger.open(path, read_secret(keys)) as opened:
        opened.reserve(ReleaseRequest("a" * 64, "north", 1, event, 1e-3, 8.0, ("Ann",), "f" * 64))
    [exposure] = json.loads(fedcall("ledger", "show", "--ledger", path, "--json").stdout)["exposures"]
    assert exposure["epsilon_per_patient"]["pld"] is None
    assert exposure["epsilon_per_example"]["pld"] == compose([(EVENT, 1)], 1e-3).pld


def test_ledger_verify__names_the_first_bad_row(ledger, keys):
    good = fedcall("ledger", "verify", "--ledger", ledger, "--keys", keys)
    assert (good.returncode, "4 rows" in good.stdout) == (0, True), good
    database = sqlite3.connect(ledger)
    database.execute("UPDATE rows SET delta = '0.5' WHERE number = 2")
    database.commit()
    database.close()
    for command in ("verify", "show"):
        bad = fedcall("ledger", command, "--ledger", ledger)
        assert bad.returncode == 3
        assert bad.stderr.count("\n") == 1
        assert "row 2 was edited" in bad.stderr
    assert "NOT AS IT WAS WRITTEN" in bad.stdout, "tables are copied without what stderr said"


def test_ledger_verify__another_sites_keys_do_not_fit(ledger, tmp_path):
    create_keys(tmp_path / "other", "south")
    done = fedcall("ledger", "verify", "--ledger", ledger, "--keys", tmp_path / "other")
    assert done.returncode == 3
    assert "row 1 was not written with this site's secret" in done.stderr


@pytest.mark.parametrize("command", ["show", "verify"])
def test_ledger__a_missing_or_foreign_file_is_one_line_and_exit_2(tmp_path, command):
    foreign = tmp_path / "notes.txt"
    foreign.write_text("no ledger " * 1000)
    for path, words in ((tmp_path / "none.sqlite", "no such ledger"), (foreign, "not a ledger of fedcall")):
        done = fedcall("ledger", command, "--ledger", path)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert words in done.stderr


TERMS = """
name: demo
rounds: 10
privacy:
  noise_multiplier: 1.0
  sampling_rate: 0.05
  steps_per_round: 50
  delta: 1.0e-5
"""


def test_privacy_plan__adds_up_over_the_rounds(tmp_path):
    study = tmp_path / "study.yaml"
    study.write_text(TERMS)
    done = fedcall("privacy", "plan", "--study", study, "--json", "--target-epsilon", 3, "--family", 2)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["total"]["pld"] == pytest.approx(7.524, abs=0.002)
    assert plan["total"]["rdp"] == pytest.approx(8.30, abs=0.01)
    assert [cost["rounds"] for cost in plan["cumulative"]] == list(range(1, 11))
    assert plan["rounds_within_cap"] == 10
    assert plan["noise_multiplier_for_target"] > 1.0
    assert plan["total"]["pld"] < plan["family"]["pld"]
    table = fedcall("privacy", "plan", "--study", study)
    assert "epsilon per patient" in table.stdout
    assert "7.524" in table.stdout


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("  clipping: sometimes", "privacy.clipping"),
        ("  max_epsilon: -1", "max_epsilon"),
        ("  colour: blue", "unknown key 'privacy.colour'"),
    ],
)
def test_privacy_plan__bad_terms_are_one_line_and_exit_2(tmp_path, line, words):
    study = tmp_path / "study.yaml"
    study.write_text(TERMS + line + "\n")
    done = fedcall("privacy", "plan", "--study", study, "--json")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


def test_ledger_plan__counts_what_earlier_studies_took(tmp_path):
    event = Event(unit="patient", mechanism="gaussian", noise_multiplier=2.0, sampling_rate=1.0, steps=4)
    request = ReleaseRequest("a" * 64, "north", 1, event, 1e-3, None, ("Ann", "Bob"), "f" * 64)
    with Ledger.open(tmp_path / "ledger.sqlite", bytes(range(32))) as ledger:
        ledger.reserve(request)
        ledger.reserve(replace(request, round=2, patients=("Ann",)))
    terms = tmp_path / "study.yaml"
    terms.write_text(
        "name: next\nrounds: 5\nprivacy: {noise_multiplier: 2.0, sampling_rate: 1.0, steps_per_round: 4,"
        " delta: 1.0e-3, max_epsilon: 8}\n"
    )
    result = fedcall("ledger", "plan", "--ledger", tmp_path / "ledger.sqlite", "--study", terms, "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)

    def fits(charged: int) -> int:
        """Rounds of the next study within its cap, which was agreed after the first study had begun: an RDP filter."""

        def cost(rounds: int) -> float:
            charges = [("a" * 64, event, charged), ("next", event, rounds)]
            return cumulative_epsilon(charges, 1e-3, "patient", 8.0, agreed_first=False).pld

        return max(rounds for rounds in range(5) if rounds == 0 or cost(rounds) <= 8)

    fresh = max(rounds for rounds in range(1, 6) if compose([(event, rounds)], 1e-3).pld <= 8)
    assert [(group["patients"], group["rounds_that_fit"]) for group in found["groups"]] == [
        (1, fits(2)),
        (1, fits(1)),
        (None, fresh),
    ]
    assert fits(2) < fits(1) < fresh
    assert found["groups"][0]["spent_pld"] == compose([(event, 2)], 1e-3).pld
    assert found["groups"][0]["left_pld"] == 8 - compose([(event, 2)], 1e-3).pld
    assert found["rounds_that_fit"] == fits(2)
    text = fedcall("ledger", "plan", "--ledger", tmp_path / "ledger.sqlite", "--study", terms).stdout
    assert f"with all of them, {fits(2)} of the 5 rounds left fit" in text
    assert max(map(len, text.splitlines())) <= 80


def test_ledger_plan__shareable_is_the_same_whoever_the_patients_are(tmp_path, keys):
    """The consortium may see it: a ledger whose people spent all they had elsewhere gives the same bytes."""
    study = tmp_path / "study.yaml"
    study.write_text("name: next\nrounds: 2\nprivacy: {noise_multiplier: 2.0, steps_per_round: 4, max_epsilon: 8.0}\n")
    printed = []
    for name, studies in (("idle", "a"), ("busy", "abcdef")):
        path = tmp_path / f"{name}.sqlite"
        with Ledger.open(path, read_secret(keys)) as opened:
            for one in studies:
                opened.reserve(ReleaseRequest(one * 64, "north", 1, EVENT, 1e-3, 30.0, ("Ann", "Bob"), "f" * 64))
        for options in ((), ("--json",)):
            done = fedcall("ledger", "plan", "--ledger", path, "--study", study, "--shareable", *options)
            assert done.returncode == 0, done.stderr
            printed.append(done.stdout)
    assert printed[:2] == printed[2:]
    assert "May leave the hospital" in printed[0]
    assert json.loads(printed[1])["groups"][0]["patients"] is None
    assert json.loads(printed[1])["limit"] is None
    own = fedcall("ledger", "plan", "--ledger", tmp_path / "busy.sqlite", "--study", study)
    assert "Stays at the hospital" in own.stdout
