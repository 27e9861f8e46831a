"""The aggregator of a sealed study: the same model as in the open, no update on its disk, a key of its hardware."""

import json
import re
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load

from consortium import make_consortium
from crashes import run_and_kill
from fedcall.attestation.enclave import SimulatedEnclave, create_simulated
from fedcall.documents import read_unverified, verify
from fedcall.errors import FedcallError
from fedcall.federation.aggregator import enclave as enclave_module
from fedcall.federation.aggregator.operation import (
    close_study,
    refusal,
    refusals,
    release_site,
    set_aside,
    study_status,
)
from fedcall.federation.aggregator.responses import respond
from fedcall.federation.aggregator.state import StudyState
from fedcall.federation.flower.messages import Request
from fedcall.keys import read_signing_key
from fedcall.protection.sealed_upload import UploadPlace, seal_upload
from fedcall.study.admission_log import AdmissionLog, read_lines
from fedcall.study.claims import Claim, Receipt
from fedcall.weights import read_weights, weights_bytes
from sealed_consortium import SITES, SealedConsortium, make_sealed_consortium


@pytest.fixture
def consortium(tmp_path) -> SealedConsortium:
    return make_sealed_consortium(tmp_path, admission={"max_refusals": 2})


def receipt_of(consortium: SealedConsortium, signed: bytes) -> Receipt:
    return verify(signed, Receipt, consortium.study.coordinator)


def files_below(*folders: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


def test_study__ends_with_the_same_model_as_in_the_open(consortium, tmp_path):
    (tmp_path / "open").mkdir()
    plain = make_consortium(tmp_path / "open", 2, SITES, admission={"max_refusals": 2})
    open_state = StudyState(plain.state, plain.study, read_signing_key(plain.keys("coordinator")), plain.initial)
    state = consortium.open_state()
    for number in (1, 2):
        base = read_weights(open_state.model_path(number))
        for site in SITES:
            tensors = plain.update(site, number, base)
            claim = plain.sign_claim(plain.claim(site, number, base.digest, tensors), site)
            open_state.answer(site, number, claim, weights_bytes(tensors, {}))
        assert open_state.close_round_if_due()
        consortium.play_round(state, number)
    assert state.is_done
    assert read_weights(state.model_path(3)).digest == read_weights(open_state.model_path(3)).digest


def test_study__updates_lie_on_disk_only_sealed(consortium, monkeypatch):
    """While they arrive, while a round closes, and after it: searched for the bytes of every tensor and claim."""
    state = consortium.open_state()
    base = read_weights(state.model_path(1))
    secrets = [consortium.contents(site, 1, base) for site in SITES]
    tensors = [tensor.tobytes() for _, update in secrets for tensor in load(update).values() if tensor.size > 4]
    claims = [claim for claim, _ in secrets]
    closings = []
    close = enclave_module.SealedFiles.opened.__wrapped__

    def watched(files, answers):
        yield from _watch(close(files, answers))

    def _watch(opening):
        next(opening)
        closings.append(files_below(consortium.state))
        memory = files_below(state.files.room)
        assert any(secret in content for content in memory.values() for secret in tensors), "nothing was opened"
        yield
        next(opening, None)

    monkeypatch.setattr(enclave_module.SealedFiles, "opened", enclave_module.contextmanager(watched))
    for site in SITES:
        consortium.send(state, site, 1)
    closings.append(files_below(consortium.state))
    assert state.close_round_if_due()
    closings.append(files_below(consortium.state))
    assert len(closings) == 3
    for found in closings:
        assert sum(path.suffix == ".sealed" for path in found) == 3
        for path, content in found.items():
            assert not any(secret in content for secret in (*tensors, *claims)), path
    assert not state.files.room.exists(), "opened updates outlive the closing"


def test_state__comes_back_to_the_same_measurement_only(consortium):
    state = consortium.open_state()
    consortium.send(state, "north", 1)
    machine = create_simulated(consortium.machine)
    assert consortium.open_state().log.site("north").accepted_rounds == 1
    other_image = SimulatedEnclave(machine.root, machine.chip_secret, bytes(48))
    other_machine = create_simulated(consortium.folder / "another")
    same_image = SimulatedEnclave(other_machine.root, other_machine.chip_secret, machine.measurement)
    upload = state.files.upload(1, "north").read_bytes()
    for one in (other_image, same_image):
        keys = consortium.enclave(one)
        with pytest.raises(FedcallError, match="this line is not this enclave's"):
            consortium.open_state(enclave=keys)
        with pytest.raises(FedcallError, match="not sealed to this one"):
            keys.open("north", 1, upload)
    assert consortium.enclave().open("north", 1, upload)
    assert consortium.enclave().log_key != consortium.enclave()._opening.private_bytes_raw()


def test_state__killed_at_any_file_goes_on_to_the_same_model(tmp_path):
    """A process that dies before or after any file is written, taken up by another one."""
    consortium = make_sealed_consortium(tmp_path, rounds=1, patients={"north": 40, "south": 20})
    _play(consortium, tmp_path / "reference")  # and fills the caches that a fork inherits
    expected = read_weights(consortium.open_state(tmp_path / "reference").model_path(2)).digest
    kills = 0
    while True:
        folder = tmp_path / f"killed{kills}"
        if not run_and_kill(lambda: _play(consortium, folder), kills + 1):  # noqa: B023  (run at once)
            break
        kills += 1
        _play(consortium, folder)
        state = consortium.open_state(folder)
        assert (state.log.open_round, read_weights(state.model_path(2)).digest) == (2, expected), kills
        assert not state.files.room.exists()
    assert kills > 20


def _play(consortium: SealedConsortium, folder: Path) -> None:
    state = consortium.open_state(folder)
    if state.log.open_round == 1:
        for site in consortium.study.sites:
            consortium.send(state, site.name, 1, keep=False)
        state.close_round_if_due()


def test_log__an_edited_line_is_not_the_enclaves(consortium):
    """Without its mark a log could be made shorter by one site: the difference of two averages is its update."""
    state = consortium.open_state()
    for site in SITES:
        consortium.send(state, site, 1)
    path = consortium.state / "admission.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    entries = list(read_lines(b"".join(lines), "log"))
    path.unlink()
    forged = AdmissionLog(path)
    for line in entries[:-1]:
        forged.append(line.entry, line.seconds)
    with pytest.raises(FedcallError, match="1: this line is not this enclave's"):
        consortium.open_state()
    mark = json.loads(lines[-1])["mark"]
    path.write_bytes(b"".join(lines[:-1]) + lines[-1].replace(mark.encode(), b"0" * 64))
    with pytest.raises(FedcallError, match=f"{len(lines)}: this line is not this enclave's"):
        consortium.open_state()


def test_close__an_upload_exchanged_on_disk_is_not_averaged(consortium):
    """Anybody can seal to the enclave's key: an average over zeros and one update would tell that update."""
    state = consortium.open_state()
    for site in SITES:
        consortium.send(state, site, 1)
    path = state.files.upload(1, "east")
    claim, update = state.enclave.open("east", 1, path.read_bytes())
    zeros = weights_bytes({name: 0 * tensor for name, tensor in load(update).items()}, {})
    place = UploadPlace(consortium.study.digest, "east", 1)
    original = path.read_bytes()
    for forged in (
        seal_upload(claim, zeros, place, state.enclave.public, bytes(32)),
        state.files.upload(1, "north").read_bytes(),
        b"",
    ):
        path.write_bytes(forged)
        with pytest.raises(FedcallError, match="not the upload that was accepted"):
            state.close_round_if_due()
        assert not state.files.room.exists()
    path.unlink()
    with pytest.raises(FedcallError, match="not the upload that was accepted"):
        state.close_round_if_due()
    path.write_bytes(original)
    assert state.close_round_if_due()


def test_answer__nothing_unsealed_and_nothing_sealed_for_another_place(consortium):
    state = consortium.open_state()
    base = read_weights(state.model_path(1))
    claim, update = consortium.contents("north", 1, base)
    digest = consortium.study.digest
    sealed = consortium.sealed(state, "north", 1)
    for site, request, said in (
        ("north", Request("upload", digest, 1, claim, update), "come sealed to its enclave's key"),
        ("north", Request("upload", digest, 1, b"", update), "not sealed to this one"),
        ("south", sealed, "what site 'south' sent for round 1 is not sealed to this one"),
        ("north", Request("upload", digest, 2, b"", sealed.update), "not sealed to this one"),
        ("north", Request("evidence", digest, 1, b"{}"), "not a request for evidence"),
    ):
        with pytest.raises(FedcallError, match=said):
            respond(state, site, request)
    assert not state.log.decisions
    assert receipt_of(consortium, respond(state, "north", sealed).document).status == "accepted"
    assert respond(state, "north", sealed).document == respond(consortium.open_state(), "north", sealed).document


def test_rolled_back__a_site_that_holds_a_later_receipt_gets_no_evidence(consortium, tmp_path):
    state = consortium.open_state()
    consortium.send(state, "north", 1)
    shutil.copytree(consortium.state, tmp_path / "backup")
    for site in ("east", "south"):
        consortium.send(state, site, 1)
    assert state.close_round_if_due()
    old = consortium.open_state(tmp_path / "backup")
    consortium.sealed(old, "north", 2)  # its newest receipt is in the older log, too: it cannot notice
    with pytest.raises(FedcallError, match="the aggregator's state was rolled back"):
        consortium.sealed(old, "south", 2)
    with pytest.raises(FedcallError, match="rolled back"):  # and now nobody is given evidence
        consortium.sealed(old, "north", 2)
    old.log.catch_up()
    assert not old.close_round_if_due()
    consortium.sealed(state, "south", 2)


def test_rolled_back__before_anybody_notices_a_round_can_be_opened_twice(consortium, tmp_path):
    """What noticing does not prevent, as docs/enclave.md says: until a site comes back, an older state is served."""
    state = consortium.open_state()
    consortium.send(state, "north", 1)
    consortium.send(state, "south", 1)
    shutil.copytree(consortium.state, tmp_path / "backup")
    consortium.send(state, "east", 1)
    assert state.close_round_if_due()
    old = consortium.open_state(tmp_path / "backup")
    set_aside(tmp_path / "backup", "east", "gone, says the operator")
    assert old.close_round_if_due()
    assert old.log.openings[2].accepted == ("north", "south")
    assert state.log.openings[2].accepted == ("east", "north", "south")
    with pytest.raises(FedcallError, match="rolled back"):
        consortium.sealed(old, "east", 2)


def test_wish__a_receipt_of_another_site_or_hand_proves_nothing(consortium):
    state = consortium.open_state()
    signed = consortium.send(state, "north", 1)
    for site, receipt in (("south", signed), ("north", signed.replace(b"accepted", b"accepteD"))):
        upload = consortium.prepare(site, 1, b"claim", b"update")
        upload._newest = (receipt, read_unverified(signed, Receipt)[0])
        with pytest.raises(FedcallError):
            consortium.ask(state, upload)
    assert not state.enclave.is_rolled_back


def test_operators__see_no_single_update_and_their_commands_count(consortium):
    state = consortium.open_state()
    consortium.send(state, "north", 1, keep=False, epsilon=0.01)  # refused: less than the terms cost
    base = read_weights(state.model_path(1))
    huge = {name: 1e3 * tensor for name, tensor in consortium.update("south", 1, base).items()}
    claim = consortium.sign_claim(consortium.claim("south", 1, base.digest, huge), "south")
    upload = consortium.prepare("south", 1, claim, weights_bytes(huge, {}))
    request = upload.seal(consortium.ask(state, upload), None)
    receipt = receipt_of(consortium, respond(state, "south", request).document)
    assert receipt.reason == "norm-ceiling"
    found = [refusal(consortium.state, row["id"]) for row in refusals(consortium.state)]
    assert len(found) == 2
    for row in found:
        assert row["claim"] is None
        assert [Path(name).name for name in row["files"]] == ["receipt.json", "upload.sealed"]
    ceiling = next(row["sentence"] for row in found if row["reason"] == "norm-ceiling")
    assert "what was measured stays in the enclave" in ceiling
    assert not re.search(r"\d", ceiling + receipt.sentence)
    told = json.dumps([study_status(consortium.state), found])
    assert claim.decode()[:80] not in told
    set_aside(consortium.state, "south", "under repair")
    state.log.catch_up()
    assert state.log.site("south").is_quarantined
    release_site(consortium.state, "south", "repaired")
    again = consortium.open_state()
    assert not again.log.site("south").is_quarantined
    for site in SITES:
        consortium.send(again, site, 1, keep=False)
    assert again.close_round_if_due()
    assert close_study(consortium.state, "enough") == 1
    assert consortium.open_state().log.closed.reason == "enough"


def test_close__who_is_put_out_is_named_without_a_number(consortium):
    state = consortium.open_state()
    base = read_weights(state.model_path(1))
    for site in ("north", "south"):
        consortium.send(state, site, 1)
    copied = consortium.update("south", 1, base)  # another site's noise, sent as its own
    claim = consortium.sign_claim(consortium.claim("east", 1, base.digest, copied), "east")
    upload = consortium.prepare("east", 1, claim, weights_bytes(copied, {}))
    respond(state, "east", upload.seal(consortium.ask(state, upload), None))
    assert state.close_round_if_due()
    (put_out,) = state.log.openings[2].outliers
    assert put_out.site == "east"
    assert put_out.sentence == (
        "round 1: not averaged, the update is unlike the other sites'; what was measured stays in the enclave"
    )
    kept = sorted(path.name for path in (consortium.state / "quarantine").rglob("*.*"))
    assert kept == ["receipt.json", "upload.sealed"]


def test_close__noise_of_an_earlier_round_is_recognised_after_a_restart(consortium):
    state = consortium.open_state()
    consortium.play_round(state, 1)
    base = read_weights(state.model_path(2))
    old = {name: 1.001 * tensor for name, tensor in consortium.update("north", 1, base).items()}
    claim = consortium.sign_claim(consortium.claim("north", 2, base.digest, old), "north")
    again = consortium.open_state()  # which has no samples in memory, and opens the earlier uploads for them
    upload = consortium.prepare("north", 2, claim, weights_bytes(old, {}))
    respond(again, "north", upload.seal(consortium.ask(again, upload), None))
    for site in ("east", "south"):
        consortium.send(again, site, 2)
    assert again.close_round_if_due()
    assert [one.site for one in again.log.openings[3].outliers] == ["north"]
    assert not again.files.room.exists()


def test_study_state__sealed_and_enclave_belong_together(consortium, tmp_path):
    key = read_signing_key(consortium.keys("coordinator"))
    with pytest.raises(FedcallError, match="is sealed: it is served inside an enclave"):
        StudyState(consortium.state, consortium.study, key, consortium.initial)
    (tmp_path / "open").mkdir()
    plain = make_consortium(tmp_path / "open", 2, SITES)
    with pytest.raises(FedcallError, match="is not sealed: it is served outside of an enclave"):
        StudyState(
            plain.state,
            plain.study,
            read_signing_key(plain.keys("coordinator")),
            plain.initial,
            consortium.enclave(),
        )


def test_study_state__a_model_that_the_log_does_not_name(consortium):
    state = consortium.open_state()
    other = {name: tensor + 1 for name, tensor in read_weights(state.model_path(1)).tensors.items()}
    state.model_path(1).write_bytes(weights_bytes(other, {}))
    with pytest.raises(FedcallError, match="the log says"):
        consortium.open_state()


def test_sealed_files__need_memory_for_files(consortium, tmp_path, monkeypatch):
    monkeypatch.setattr(enclave_module, "MEMORY", tmp_path / "none")
    with pytest.raises(FedcallError, match="keeps opened updates in memory only"):
        consortium.open_state()


def test_claim__is_the_sites_own(consortium):
    """What is opened is admitted as in the open: a claim that another site signed is refused."""
    state = consortium.open_state()
    base = read_weights(state.model_path(1))
    tensors = consortium.update("north", 1, base)
    claim: Claim = consortium.claim("north", 1, base.digest, tensors)
    upload = consortium.prepare("north", 1, consortium.sign_claim(claim, "south"), weights_bytes(tensors, {}))
    receipt = receipt_of(consortium, respond(state, "north", upload.seal(consortium.ask(state, upload), None)).document)
    assert (receipt.status, receipt.reason) == ("rejected", "bad-signature")
