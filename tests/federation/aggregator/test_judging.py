"""The private judge at the aggregator: a judgement is admitted like an update, and the verdict is signed once."""

import base64
import json
from pathlib import Path
from threading import Event, Thread

import pytest

from consortium import Consortium, make_consortium
from fedcall.documents import read_unverified, sign, verify
from fedcall.federation.aggregator.judgement_admission import largest_total
from fedcall.federation.aggregator.responses import respond
from fedcall.federation.aggregator.state import StudyState
from fedcall.federation.flower.messages import Request
from fedcall.federation.site.handover import Handover
from fedcall.federation.site.visits import Visitor, fetch_log, fetch_verdict, upload_judgement
from fedcall.files import write_bytes, write_text
from fedcall.keys import create_keys, read_signing_key
from fedcall.privacy.mechanism.clipping import GRID
from fedcall.study.admission_log import SetAside
from fedcall.study.claims import Receipt
from fedcall.study.judgement import JudgedSite, Judgement, Verdict
from fedcall.study.log_reading import log_rows
from fedcall.weights import weights_bytes


@pytest.fixture
def consortium(tmp_path) -> Consortium:
    return make_consortium(tmp_path, rounds=1, holdout={"north": 8, "south": 4}, evaluation={"epsilon": 0.5})


def open_state(consortium: Consortium) -> StudyState:
    return StudyState(
        consortium.state, consortium.study, read_signing_key(consortium.keys("coordinator")), consortium.initial
    )


def finished(consortium: Consortium) -> tuple[StudyState, str]:
    """Play the study's round; return the state and the digest of the final model."""
    state = open_state(consortium)
    base = state.log.openings[1].base
    for site in consortium.study.sites:
        update = consortium.update(site.name, 1, _weights(state))
        claim = consortium.claim(site.name, 1, base, update)
        state.answer(site.name, 1, consortium.sign_claim(claim, site.name), weights_bytes(update, {}))
    assert state.close_round_if_due()
    return state, state.log.openings[2].base


def _weights(state: StudyState):
    from fedcall.weights import read_weights

    return read_weights(state.model_path(1))


def judge(consortium: Consortium, state: StudyState, site: str, signed: bytes) -> Receipt:
    return verify(state.judge.answer(site, signed, b""), Receipt, str(consortium.study.coordinator))


def test_judge__admitted_judgements_make_a_signed_verdict(consortium: Consortium) -> None:
    state, final = finished(consortium)
    assert state.judge.waiting_for() == ["north", "south"]
    assert not state.close_round_if_due()
    for site, total in (("north", 2 * GRID), ("south", -GRID)):
        receipt = judge(consortium, state, site, consortium.judgement(site, final, total))
        assert (receipt.status, receipt.round, receipt.epsilon) == ("accepted", 2, 0.5)
    assert state.judge.verdict() is None
    assert state.close_round_if_due()
    verdict = verify(state.judge.verdict() or b"", Verdict, str(consortium.study.coordinator))
    assert verdict.sites == (
        JudgedSite(site="north", people=8, total=2 * GRID),
        JudgedSite(site="south", people=4, total=-GRID),
    )
    assert (verdict.final, verdict.log_head) == (final, state.log.log.head)
    assert not state.close_round_if_due()
    again = open_state(consortium)  # after a kill: the log is all it takes
    assert again.judge.verdict() == state.judge.verdict()
    assert any("judgements closed: north, south" in row["what"] for row in log_rows(again.log.log.lines))


def test_judge__same_judgement_same_receipt_and_no_second_one(consortium: Consortium) -> None:
    state, final = finished(consortium)
    signed = consortium.judgement("north", final, 7)
    first = state.judge.answer("north", signed, b"")
    assert state.judge.answer("north", signed, b"") == first
    second = judge(consortium, state, "north", consortium.judgement("north", final, 8))
    assert (second.status, second.reason) == ("rejected", "replay")
    consortium.state.joinpath("judgements/north.receipt.json").unlink()
    again = open_state(consortium)
    assert again.judge.answer("north", signed, b"") == first
    assert consortium.state.joinpath("judgements/north.receipt.json").read_bytes() == first


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"study": "0" * 64}, "wrong-study"),
        ({"initial": "0" * 64}, "wrong-base"),
        ({"final": "0" * 64}, "wrong-base"),
        ({"people": 3}, "mechanism"),
        ({"evaluation": {"epsilon": 0.6}}, "mechanism"),
        ({"evaluation": {"epsilon": 0.5, "clip": 0.1}}, "mechanism"),
        ({"outcome": "withheld"}, "malformed"),
        ({"total": None, "outcome": "released"}, "malformed"),
        ({"site": "south"}, "unregistered-site"),
    ],
)
def test_admit_judgement__what_does_not_fit_the_study_is_refused(consortium: Consortium, changes, reason) -> None:
    state, final = finished(consortium)
    receipt = judge(consortium, state, "north", consortium.judgement("north", final, 7, **changes))
    assert (receipt.status, receipt.reason) == ("rejected", reason)
    assert state.judge.waiting_for() == ["north", "south"]
    assert state.log.site("north").judged is None


def test_admit_judgement__total_beyond_what_noise_can_make_is_refused(consortium: Consortium) -> None:
    state, final = finished(consortium)
    limit = largest_total(consortium.study, 8)
    assert limit > 8 * GRID
    assert judge(consortium, state, "north", consortium.judgement("north", final, -limit - 1)).reason == "range"
    assert judge(consortium, state, "north", consortium.judgement("north", final, -limit)).reason == "ok"


def test_admit_judgement__signed_by_another_key_or_garbage_is_refused(consortium: Consortium, tmp_path) -> None:
    state, final = finished(consortium)
    create_keys(tmp_path / "stranger", "north")
    honest = read_unverified(consortium.judgement("north", final, 7), Judgement)[0]
    forged = sign(honest, read_signing_key(tmp_path / "stranger"))
    assert judge(consortium, state, "north", forged).reason == "bad-signature"
    assert judge(consortium, state, "north", b"{}").reason == "malformed"
    assert judge(consortium, state, "north", consortium.judgement("north", final, 7) + b" ").reason == "malformed"
    assert (
        verify(
            state.judge.answer("north", consortium.judgement("north", final, 7), b"file"),
            Receipt,
            str(consortium.study.coordinator),
        ).reason
        == "malformed"
    )


def test_admit_judgement__before_the_final_model_and_after_the_verdict_is_too_early_and_too_late(
    consortium: Consortium,
) -> None:
    early = judge(consortium, open_state(consortium), "north", consortium.judgement("north", "0" * 64, 7))
    assert early.reason == "wrong-round"
    state, final = finished(consortium)
    judge(consortium, state, "north", consortium.judgement("north", final, 7))
    state.log.append(SetAside(site="south", reason="gone", operator="test"))
    assert state.close_round_if_due(), "a site that is set aside is not waited for"
    late = judge(consortium, state, "south", consortium.judgement("south", final, 7))
    assert late.reason == "site-quarantined"


def test_judge__deadline_closes_without_the_missing(tmp_path) -> None:
    consortium = make_consortium(
        tmp_path,
        rounds=1,
        holdout={"north": 8, "south": 4},
        evaluation={"epsilon": 0.5},
        aggregation={"deadline_minutes": 1e-9},
    )
    state, final = finished(consortium)
    assert state.close_round_if_due()
    assert verify(state.judge.verdict() or b"", Verdict, str(consortium.study.coordinator)).sites == ()
    assert judge(consortium, state, "south", consortium.judgement("south", final, 7)).reason == "late"


def test_judge__withheld_counts_as_an_answer_without_a_part_in_the_verdict(consortium: Consortium) -> None:
    state, final = finished(consortium)
    assert judge(consortium, state, "north", consortium.judgement("north", final, None)).status == "withheld"
    judge(consortium, state, "south", consortium.judgement("south", final, 7))
    assert state.close_round_if_due()
    verdict = verify(state.judge.verdict() or b"", Verdict, str(consortium.study.coordinator))
    assert [site.site for site in verdict.sites] == ["south"]


def test_judge__study_without_one_wants_no_judgement(tmp_path) -> None:
    consortium = make_consortium(tmp_path, rounds=1)
    state, _ = finished(consortium)
    assert not state.judge.is_wanted
    assert not state.close_round_if_due()
    assert state.judge.verdict() is None


def test_judge__through_a_handover_folder(consortium: Consortium, tmp_path) -> None:
    """A thread plays the SuperNode that carries requests and answers: judgement, verdict and log pass like updates."""
    state, final = finished(consortium)
    folder, stopped = tmp_path / "handover", Event()
    node = Thread(target=carry, args=(state, "north", folder, stopped))
    node.start()
    try:
        place = Handover(folder)
        visitor = Visitor(consortium.study, "north", consortium.keys("north"), lambda: place, 60, 60)
        judgement = tmp_path / "judgement.json"
        judgement.write_bytes(consortium.judgement("north", final, 7))
        receipt = upload_judgement(visitor, judgement, tmp_path / "receipt.json")
        assert (receipt.status, receipt.round) == ("accepted", 2)
        assert upload_judgement(visitor, judgement, tmp_path / "again.json") == receipt
        judge(consortium, state, "south", consortium.judgement("south", final, 5))
        assert state.close_round_if_due()
        verdict = fetch_verdict(visitor, judgement, tmp_path / "verdict.json")
        assert [(site.site, site.total) for site in verdict.sites] == [("north", 7), ("south", 5)]
        fetch_log(visitor, tmp_path / "admission.jsonl")
        assert '"concluded"' in (tmp_path / "admission.jsonl").read_text()
    finally:
        stopped.set()
        node.join()


def carry(state: StudyState, site: str, folder: Path, stopped: Event) -> None:
    """Answer what lies in a handover folder, as a SuperNode and the aggregator do together."""
    while not stopped.wait(0.05):
        try:
            wish = json.loads((folder / "request.json").read_bytes())
            claim, update = ((folder / f"{wish['id']}.{part}").read_bytes() for part in ("claim", "update"))
        except FileNotFoundError:
            continue
        answer = respond(state, site, Request(wish["kind"], wish["study"], wish["round"], claim, update))
        write_bytes(folder / "answer.file", answer.model)
        document = base64.b64encode(answer.document).decode()
        found = {"request": wish["id"], "kind": answer.kind, "document": document, "sentence": answer.sentence}
        write_text(folder / "answer.json", json.dumps(found))
