"""A study from first to last round at the aggregator: who is waited for, who is late, what a kill changes."""

import json

import numpy as np
import pytest
from safetensors.numpy import save

from consortium import Consortium, make_consortium
from fedcall.documents import sign, verify
from fedcall.errors import FedcallError
from fedcall.federation.aggregator import state as study_state
from fedcall.federation.aggregator.aggregation import Contribution, next_global, read_moments
from fedcall.federation.aggregator.operation import (
    interventions,
    refusal,
    refusals,
    release_site,
    set_aside,
    study_status,
)
from fedcall.federation.aggregator.state import StudyState
from fedcall.keys import read_signing_key
from fedcall.study.admission_log import AdmissionLog, extract, read_lines
from fedcall.study.claims import Receipt
from fedcall.study.log_reading import check_receipts, log_rows, read_log
from fedcall.study.opening import RoundOpening
from fedcall.weights import read_weights

FIVE = {"coast": 30, "east": 20, "north": 40, "south": 20, "west": 30}
THREE = {"east": 30, "north": 40, "south": 20}


def open_state(consortium: Consortium) -> StudyState:
    key = read_signing_key(consortium.keys("coordinator"))
    return StudyState(consortium.state, consortium.study, key, consortium.initial)


def answer(consortium, state, site, number=None, scale=1.0, withheld=False, **changes) -> Receipt:
    """Upload a site's answer to the open round, or to round `number`, made from that round's model."""
    number = number or state.log.open_round
    base = read_weights(state.model_path(number))
    tensors = {name: np.float32(scale) * tensor for name, tensor in consortium.update(site, number, base).items()}
    claim = consortium.claim(site, number, base.digest, None if withheld else tensors, **changes)
    update = b"" if withheld else save(tensors)
    signed = state.answer(site, number, consortium.sign_claim(claim, site), update)
    return verify(signed, Receipt, consortium.study.coordinator)


def opening(consortium, state, number) -> RoundOpening:
    return verify(state.opening(number), RoundOpening, consortium.study.coordinator)


def test_rounds__deadline_closes_with_the_minimum(tmp_path):
    consortium = make_consortium(tmp_path, 2, THREE, aggregation={"minimum_sites": 2, "deadline_minutes": 60})
    state = open_state(consortium)
    answer(consortium, state, "north")
    state.log.opened_at -= 3601
    assert not state.close_round_if_due(), "the deadline has passed, but one answer is too few"
    answer(consortium, state, "south")
    assert state.close_round_if_due(), "the second makes it enough"
    assert opening(consortium, state, 2).accepted == ("north", "south")


def test_rounds__fewer_than_the_minimum_change_nothing(tmp_path):
    consortium = make_consortium(tmp_path, 2, THREE, aggregation={"minimum_sites": 2})
    state = open_state(consortium)
    answer(consortium, state, "east", withheld=True)
    answer(consortium, state, "north")
    answer(consortium, state, "south", withheld=True)
    assert state.close_round_if_due(), "nobody is left to wait for"
    assert opening(consortium, state, 2).accepted == ()
    assert opening(consortium, state, 2).base == opening(consortium, state, 1).base


def test_rounds__fedadam_remembers_over_restarts(tmp_path):
    consortium = make_consortium(tmp_path, 2, THREE, aggregation={"strategy": "fedadam"})
    tensors, moments = read_weights(consortium.initial).tensors, None
    for number in (1, 2):
        state = open_state(consortium)
        for site in THREE:
            answer(consortium, state, site)
        assert state.close_round_if_due()
        updates = [Contribution(site, state.files.update(number, site), THREE[site]) for site in THREE]
        expected = next_global(tensors, updates, consortium.study.aggregation, moments)
        tensors, moments = expected.tensors, expected.moments
    found = read_weights(state.model_path(3)).tensors
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor)
    path = state.files.moments(2)
    path.write_bytes(state.files.moments(3).read_bytes())
    with pytest.raises(FedcallError, match="restore it from your backup"):
        read_moments(path, state.log.openings[2].moments)


def test_rounds__before_the_deadline_everybody_is_waited_for(tmp_path):
    consortium = make_consortium(tmp_path, 2, THREE, aggregation={"minimum_sites": 2, "deadline_minutes": 60})
    state = open_state(consortium)
    answer(consortium, state, "north")
    answer(consortium, state, "south")
    assert not state.close_round_if_due()
    assert state.waiting_for() == ["east"]


def test_rounds__late_update_is_refused_without_blame_and_the_next_global_is_there(tmp_path):
    consortium = make_consortium(tmp_path, 2, THREE, aggregation={"minimum_sites": 2, "deadline_minutes": 60})
    state = open_state(consortium)
    for site in ("north", "south"):
        answer(consortium, state, site)
    state.log.opened_at -= 3601
    state.close_round_if_due()
    late = answer(consortium, state, "east", 1)
    assert (late.status, late.reason, late.sentence) == ("rejected", "late", "round 1 is closed; fetch round 2")
    assert late.epsilon > 0, "its patients' budget is spent all the same"
    assert read_weights(state.model_path(2)).digest == opening(consortium, state, 2).base
    again = answer(consortium, state, "east", 2)
    assert (again.status, again.accepted_rounds) == ("accepted", 1)
    assert again.epsilon > late.epsilon


def test_rounds__a_site_joins_at_the_third(tmp_path):
    consortium = make_consortium(tmp_path, 4, THREE, aggregation={"deadline_minutes": 60})
    state = open_state(consortium)
    for _ in range(2):
        answer(consortium, state, "north")
        answer(consortium, state, "south")
        state.log.opened_at -= 3601
        assert state.close_round_if_due()
    assert state.waiting_for() == ["east", "north", "south"]
    assert state.stand_down("east", 1) == "round 1 is closed; round 3 is open", "training it would spend for nothing"
    assert [state.stand_down("east", 3), state.stand_down("north", 1)] == ["", ""]
    first = answer(consortium, state, "east", epsilon=1.0 + _epsilon_of(consortium, 1))
    assert (first.status, first.accepted_rounds) == ("accepted", 1)
    assert first.epsilon == pytest.approx(_epsilon_of(consortium, 1)), "rounds it was not part of cost it nothing"


def test_rounds__withholding_sites_are_not_waited_for_and_stay(tmp_path):
    consortium = make_consortium(tmp_path, 2, THREE)
    state = open_state(consortium)
    assert answer(consortium, state, "east", withheld=True).status == "withheld"
    answer(consortium, state, "north")
    answer(consortium, state, "south")
    assert state.close_round_if_due()
    assert opening(consortium, state, 2).accepted == ("north", "south")
    assert answer(consortium, state, "east").status == "accepted", "a site that withheld may answer again"


def test_rounds__a_site_gone_for_good_is_set_aside(tmp_path):
    consortium = make_consortium(tmp_path, 2, THREE)
    state = open_state(consortium)
    answer(consortium, state, "north")
    answer(consortium, state, "south")
    assert not state.close_round_if_due()
    set_aside(consortium.state, "east", "left the consortium", "mia")
    assert state.close_round_if_due(), "what an operator appended is taken in"
    assert state.waiting_for() == ["north", "south"]
    with pytest.raises(FedcallError, match="already"):
        set_aside(consortium.state, "east", "again")
    with pytest.raises(FedcallError, match="not part of study"):
        set_aside(consortium.state, "nowhere", "typo")
    assert "quarantined" in state.stand_down("east", 2)
    assert answer(consortium, state, "east", withheld=True).reason == "site-quarantined"
    release_site(consortium.state, "east", "came back", "mia")
    answer(consortium, state, "north")
    answer(consortium, state, "south")
    assert not state.close_round_if_due(), "it is waited for again"
    assert state.stand_down("east", 2) == ""
    assert answer(consortium, state, "east").status == "accepted"
    assert state.close_round_if_due()
    assert [(row["action"], row["operator"], row["reason"]) for row in interventions(consortium.state)] == [
        ("set-aside", "mia", "left the consortium"),
        ("released", "mia", "came back"),
    ]


def test_rounds__the_last_makes_the_final_model(tmp_path):
    consortium = make_consortium(tmp_path, 2, THREE)
    state = open_state(consortium)
    for _ in range(2):
        for site in THREE:
            answer(consortium, state, site)
        assert state.close_round_if_due()
    assert state.is_done
    assert not state.close_round_if_due()
    assert state.waiting_for() == []
    assert opening(consortium, state, 3).base == read_weights(state.model_path(3)).digest
    assert state.opening(4) is None
    assert answer(consortium, state, "east", 2, software="again").reason == "late"


def test_rounds__an_outlier_is_put_out_and_told(tmp_path):
    consortium = make_consortium(tmp_path, 3, THREE, admission={"max_refusals": 2, "max_update_norm": 100.0})
    state = open_state(consortium)
    with _no_ceiling():
        first = answer(consortium, state, "south", scale=8.0)
    assert (first.status, first.reason) == ("accepted", "ok"), "it is compared when the round closes"
    assert "compared with the other sites" in first.sentence
    answer(consortium, state, "east")
    answer(consortium, state, "north")
    assert state.close_round_if_due()
    second = opening(consortium, state, 2)
    assert (second.accepted, second.outliers) == (("east", "north"), ("south",))
    with _no_ceiling():
        told = answer(consortium, state, "south", 1, scale=8.0)
    assert (told.status, told.reason, told.accepted_rounds) == ("quarantined", "outlier", 0)
    assert told.log_head == second.log_head
    assert told.claim == first.claim
    row = refusals(consortium.state)[0]
    assert (row["site"], row["reason"]) == ("south", "outlier")
    assert len(refusal(consortium.state, row["id"])["files"]) == 3
    assert not study_status(consortium.state)["sites"][2]["quarantined"]
    weights = {"east": 30, "north": 40}
    base = read_weights(state.model_path(1))
    updates = {site: consortium.update(site, 1, base) for site in weights}
    found = read_weights(state.model_path(2)).tensors
    for name, tensor in base.tensors.items():
        expected = tensor + sum(weights[site] * updates[site][name].astype(np.float64) for site in weights) / 70
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-7)

    with _no_ceiling():  # the second outlier in a row quarantines the site
        answer(consortium, state, "south", scale=8.0)
    answer(consortium, state, "east")
    answer(consortium, state, "north")
    assert state.close_round_if_due()
    assert study_status(consortium.state)["sites"][2]["quarantined"]
    assert answer(consortium, state, "south").reason == "site-quarantined"
    again = open_state(consortium)
    assert again.log.openings[3].outliers[0].quarantines
    assert again.opening(3) == state.opening(3)


def test_rounds__an_honest_round_between_outliers_forgives(tmp_path):
    consortium = make_consortium(tmp_path, 4, THREE, admission={"max_refusals": 2})
    state = open_state(consortium)
    for scale, accepted in ((8.0, 1), (1.0, 1), (8.0, 2)):
        with _no_ceiling():
            assert answer(consortium, state, "south", scale=scale).accepted_rounds == accepted, "outliers do not count"
        answer(consortium, state, "east")
        answer(consortium, state, "north")
        assert state.close_round_if_due()
    assert [len(state.log.openings[number].outliers) for number in (2, 3, 4)] == [1, 0, 1]
    assert not state.log.site("south").is_quarantined


def test_rounds__sites_are_not_compared_when_the_study_says_so(tmp_path):
    consortium = make_consortium(tmp_path, 2, THREE, admission={"outlier_z": None})
    state = open_state(consortium)
    with _no_ceiling():
        assert "compared" not in answer(consortium, state, "south", scale=8.0).sentence
    answer(consortium, state, "east")
    answer(consortium, state, "north")
    assert state.close_round_if_due()
    assert opening(consortium, state, 2).accepted == ("east", "north", "south")


def test_rounds__a_site_that_is_refused_without_end_does_not_fill_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(study_state, "_KEPT_REFUSALS", 3)
    consortium = make_consortium(tmp_path, 2, THREE)
    state = open_state(consortium)
    receipts = [answer(consortium, state, "south", epsilon=0.001, software=str(number)) for number in range(8)]
    assert [receipt.status for receipt in receipts[:3]] == ["rejected", "rejected", "quarantined"]
    assert len(list(consortium.state.glob("quarantine/*"))) == 3
    assert len(refusals(consortium.state)) == 8, "the log has them all"
    assert len(state.log.decisions) == 8


def test_rounds__a_quarantined_site_keeps_receiving_models(tmp_path):
    consortium = make_consortium(tmp_path, 2, THREE, admission={"max_refusals": 1})
    state = open_state(consortium)
    receipt = answer(consortium, state, "south", epsilon=0.001)
    assert (receipt.status, receipt.reason) == ("quarantined", "epsilon")
    answer(consortium, state, "east")
    answer(consortium, state, "north")
    assert state.close_round_if_due()
    assert state.opening(2) is not None


@pytest.mark.parametrize("aggregation", [{}, {"strategy": "fedadam"}])
@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_rounds__a_kill_at_any_write_changes_nothing(tmp_path, monkeypatch, aggregation, is_done):
    """Two rounds of three sites, one an outlier once, killed before or after every single write, one run for each."""
    undisturbed, writes = _run_killed(tmp_path / "whole", aggregation, monkeypatch, None, is_done)
    assert writes > 20
    for number in range(0, writes, 1 if not aggregation else 3):
        found, _ = _run_killed(tmp_path / str(number), aggregation, monkeypatch, number, is_done)
        assert found == undisturbed, f"killed at write {number} of {writes}"


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def _run_killed(folder, aggregation, monkeypatch, number, is_done):
    """Run a study, kill it at a write, start it again and let the sites repeat themselves; return what it came to."""
    consortium = make_consortium(folder, 2, THREE, aggregation=aggregation)
    # The same keys would be the same digests; kept apart by folder, so compare what does not depend on keys.
    writes = 0

    def counted(function):
        def write(*arguments):
            nonlocal writes
            writes += 1
            if number is not None and writes == number + 1 and not is_done:
                raise Killed
            result = function(*arguments)
            if number is not None and writes == number + 1:
                raise Killed
            return result

        return write

    with monkeypatch.context() as patch:
        for name in ("write_bytes", "write_weights", "write_moments"):
            patch.setattr(study_state, name, counted(getattr(study_state, name)))
        patch.setattr(AdmissionLog, "append", counted(AdmissionLog.append))
        while True:
            try:
                state = open_state(consortium)
                while not state.is_done:
                    for site in THREE:
                        scale = 8.0 if (site, state.log.open_round) == ("south", 1) else 1.0
                        with _no_ceiling():
                            answer(consortium, state, site, scale=scale)
                    state.close_round_if_due()
                break
            except Killed:
                continue
    again = open_state(consortium)
    decisions = [(d.entry.site, d.entry.round, d.entry.status, d.put_out is not None) for d in again.log.decisions]
    openings = {n: (o.accepted, [one.site for one in o.outliers]) for n, o in again.log.openings.items()}
    models = [read_weights(again.model_path(n)).digest for n in (1, 2, 3)]
    files = sorted(str(path.parent.name) + "/" + path.name for path in consortium.state.glob("rounds/*/receipts/*"))
    quarantined = sorted(path.name for path in consortium.state.glob("quarantine/*/*"))
    assert check_log(again)
    return (sorted(decisions), openings, models, files, quarantined), writes


def check_log(state) -> bool:
    return [line.head for line in read_lines(state.files.log.read_bytes(), "log")] == [
        line.head for line in state.log.log.lines
    ]


def test_admission_log__a_line_cut_short_never_counted(tmp_path):
    consortium = make_consortium(tmp_path, 2, THREE)
    state = open_state(consortium)
    answer(consortium, state, "north")
    path = state.files.log
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines(keepends=True)[1][:-40])
    again = open_state(consortium)
    assert again.log.log.lines == state.log.log.lines
    answer(consortium, again, "south")
    assert path.read_bytes().startswith(whole)
    assert len(read_log(path)) == 3


def test_admission_log__shows_a_site_its_own_and_hides_the_rest(tmp_path):
    consortium = make_consortium(tmp_path, 2, THREE)
    state = open_state(consortium)
    answer(consortium, state, "north")
    answer(consortium, state, "south", epsilon=0.001)
    answer(consortium, state, "east")
    state.close_round_if_due()
    shown = state.extract("north")
    lines = list(read_lines(shown, "extract"))
    assert [line.head for line in lines] == [line.head for line in state.log.log.lines]
    assert [row["entry"]["kind"] for row in log_rows(lines)] == ["opened", "decided", "hidden", "hidden", "opened"]
    assert b"0.001" not in shown, "another site's refusal is nobody's business"
    assert extract(lines, "south") != state.extract("south"), "what was hidden stays hidden"


def test_check_receipts__finds_a_rewritten_history(tmp_path):
    consortium = make_consortium(tmp_path, 2, THREE)
    state = open_state(consortium)
    for site in THREE:
        answer(consortium, state, site)
    state.close_round_if_due()
    rounds = tmp_path / "rounds"
    (rounds / "1").mkdir(parents=True)
    (rounds / "1" / "receipt.json").write_bytes(state.files.receipt(1, "north").read_bytes())
    log = tmp_path / "log.jsonl"
    log.write_bytes(state.extract("north"))
    assert check_receipts(read_log(log), consortium.study, "north", rounds) == 1

    true = (rounds / "1" / "receipt.json").read_bytes()
    said = verify(true, Receipt, consortium.study.coordinator).model_copy(update={"status": "rejected"})
    (rounds / "1" / "receipt.json").write_bytes(sign(said, read_signing_key(consortium.keys("coordinator"))))
    with pytest.raises(FedcallError, match="says something else"):
        check_receipts(read_log(log), consortium.study, "north", rounds)
    (rounds / "1" / "receipt.json").write_bytes(true)

    other = make_consortium(tmp_path / "other", 2, THREE)
    with pytest.raises(FedcallError, match="not in this log"):
        check_receipts(read_lines(open_state(other).extract("north"), "log"), consortium.study, "north", rounds)

    lines = state.extract("north").splitlines(keepends=True)
    changed = [json.loads(line) for line in lines]
    index = next(i for i, line in enumerate(changed) if line["entry"].get("site") == "north")
    changed[index]["entry"]["status"] = "rejected"
    log.write_text("".join(json.dumps(line) + "\n" for line in changed))
    with pytest.raises(FedcallError, match=f"log.jsonl:{index + 1}: this line does not continue"):
        read_log(log)
    log.write_bytes(b"".join(lines[:index] + lines[index + 1 :]))
    with pytest.raises(FedcallError, match=f"log.jsonl:{index + 1}"):
        read_log(log)


def test_krum__needs_five_and_follows_its_terms(tmp_path):
    aggregation = {"strategy": "krum", "minimum_sites": 5}
    consortium = make_consortium(tmp_path, 1, FIVE, aggregation=aggregation)
    state = open_state(consortium)
    for site in FIVE:
        answer(consortium, state, site)
    assert state.close_round_if_due()
    base = read_weights(state.model_path(1))
    steps = [
        all(
            np.allclose(
                read_weights(state.model_path(2)).tensors[name], tensor + consortium.update(site, 1, base)[name]
            )
            for name, tensor in base.tensors.items()
        )
        for site in FIVE
    ]
    assert sum(steps) == 1, "krum takes one update as it is"


def _epsilon_of(consortium, rounds: int) -> float:
    from fedcall.privacy.accounting.epsilon import study_epsilon

    return study_epsilon(consortium.study.privacy, rounds).pld


class _no_ceiling:  # noqa: N801
    """Lets a scaled update pass the norm ceiling, as one from a study with longer signals would."""

    def __enter__(self):
        from fedcall.federation.aggregator import admission

        self._kept = admission.check_norm_ceiling
        admission.check_norm_ceiling = lambda *_: None

    def __exit__(self, *_):
        from fedcall.federation.aggregator import admission

        admission.check_norm_ceiling = self._kept
