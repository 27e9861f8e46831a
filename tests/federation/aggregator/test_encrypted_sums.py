"""A round of encrypted updates: bit for bit the sum in the clear, or an error that names what is wrong."""

import hashlib

import numpy as np
import pytest
from safetensors.numpy import load

from encrypted_consortium import HOLDERS, copy_consortium, make_encrypted_consortium, needs_openfhe
from fedcall.documents import read_unverified, sign, verify
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.aggregation import apply_update
from fedcall.keys import read_signing_key
from fedcall.protection import bfv
from fedcall.reporting.privacy.checklist import not_covered, trust
from fedcall.study.claims import Claim, Receipt
from fedcall.study.sum_orders import MaskSum, SumOrder, check_opening
from fedcall.study.sums import SumLayout, mean_update
from fedcall.weights import read_weights, weights_bytes
from masked_consortium import PRIVACY

pytestmark = needs_openfhe
SITES = ("east", "north", "south")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_encrypted_consortium(tmp_path_factory.mktemp("encrypted"))


@pytest.fixture
def consortium(made, tmp_path):
    return copy_consortium(made, tmp_path)


@pytest.fixture(scope="module")
def uploaded(made, tmp_path_factory):
    """Return a consortium whose first round is ordered."""
    consortium = copy_consortium(made, tmp_path_factory.mktemp("uploaded"))
    state = consortium.open_state()
    consortium.upload_all(state, 1)
    assert not state.close_round_if_due()
    return consortium


@pytest.fixture
def ordered(uploaded, tmp_path):
    consortium = copy_consortium(uploaded, tmp_path)
    return consortium, consortium.open_state()


def order_of(state):
    return read_unverified(state.log.ordered[1].order.encode(), SumOrder)[0]


def test_close__the_model_is_the_one_that_addition_in_the_clear_gives(ordered):
    consortium, state = ordered
    base, study = read_weights(state.model_path(1)), consortium.study
    assert state.waiting_for() == [f"helper {name}" for name in HOLDERS]
    consortium.ask_helpers(state)
    assert state.close_round_if_due()
    assert_model_of_the_sum(consortium, base, read_weights(state.model_path(2)).tensors)
    order, masks = state.log.ordered[1].order, state.log.openings[2].masks
    assert check_opening(study, 1, order, masks).sites == SITES
    pieces = [consortium.vector(site, 1, base)["head.weight"][0].tobytes() for site in SITES]
    contents = [path.read_bytes() for path in consortium.state.rglob("*") if path.is_file()]
    assert not any(piece in content for piece in pieces for content in contents)


def test_close__with_own_noise_in_each_update_the_model_is_that_of_addition_in_the_clear(tmp_path):
    consortium = make_encrypted_consortium(tmp_path, 1, privacy=PRIVACY.model_copy(update={"noise": "own"}))
    assert consortium.study.noise_shares == 1
    state = consortium.open_state()
    consortium.play_round(state, 1)
    base = read_weights(state.model_path(1))
    assert state.log.openings[2].accepted == SITES
    assert_model_of_the_sum(consortium, base, read_weights(state.model_path(2)).tensors)


def assert_model_of_the_sum(consortium, base, found):
    """Hold a round's model against that of the sum in the clear, bit for bit."""
    total = consortium.total(1, base)
    layout = SumLayout.of({name: tensor.shape for name, tensor in total.items()})
    clear = mean_update(consortium.study, layout, layout.flatten(total), SITES)
    expected = apply_update(base.tensors, clear, consortium.study.aggregation).tensors
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_answer__a_holder_adds_the_listed_ciphertexts_itself_and_gives_the_same_bytes_again(ordered):
    consortium, state = ordered
    asked = []
    first = consortium.desk("notary").answer(
        *state.sums.pending("notary"), 1, lambda site: asked.append(site) or state.sums.listed("notary", site)
    )
    assert asked == list(SITES)
    again = consortium.desk("notary").answer(*state.sums.pending("notary"), 9, lambda _: pytest.fail("asked again"))
    assert again == first
    statement = verify(first.statement, MaskSum, consortium.study.protection.signing_keys["notary"])
    assert statement.partial is not None
    partials = consortium.folder / "helpers/notary/partials"
    (stored,) = partials.iterdir()
    stored.rename(tmp := stored.with_suffix(".gone"))
    with pytest.raises(FedcallError, match="restore it from your backup"):
        consortium.help(state, "notary")
    stored.write_bytes(tmp.read_bytes()[:-1] + b"\0")
    with pytest.raises(FedcallError, match="another than the log names"):
        consortium.help(state, "notary")


def test_answer__killed_before_the_log_line_the_stored_partial_is_given_and_no_other(ordered):
    consortium, state = ordered
    first = consortium.help(state, "notary")
    (consortium.folder / "helpers/notary/answers.jsonl").unlink()
    next(consortium.keys("notary").glob("answers-*.head")).unlink()
    assert consortium.help(state, "notary") == first


def test_answer__an_update_that_the_site_did_not_sign_is_never_added(ordered):
    consortium, state = ordered
    files = {site: state.sums.listed("notary", site) for site in SITES}
    for change in (
        {"north": files["south"]},
        {"north": files["north"][:-1]},
        {"north": b""},
        {"north": weights_bytes({"ciphertexts": np.zeros(3, np.uint64)}, {})},
        {"north": bytes(5 << 20)},
    ):
        given = files | change
        with pytest.raises(FedcallError, match="the update of site 'north'"):
            consortium.desk("notary").answer(*state.sums.pending("notary"), 1, given.__getitem__)
    assert not (consortium.folder / "helpers/notary/partials").exists()
    assert consortium.desk("notary").log.lines == []


def test_take__a_partial_that_is_not_the_one_named_is_refused(ordered):
    consortium, state = ordered
    given = consortium.help(state, "notary")
    flipped = bytearray(given.masks)
    flipped[-1] ^= 1
    for masks in (bytes(flipped), given.masks[:-8]):
        with pytest.raises(FedcallError, match="partial decryption"):
            state.sums.take("notary", given.statement, masks)
    statement = verify(given.statement, MaskSum, consortium.study.protection.signing_keys["notary"])
    key = read_signing_key(consortium.keys("notary"))
    short = given.masks[:-8]
    values = 4 * order_of(state).values
    digest = hashlib.sha256(short[values:]).hexdigest()
    with pytest.raises(FedcallError, match="bytes"):
        state.sums.take("notary", sign(statement.model_copy(update={"partial": digest}), key), short)
    assert state.waiting_for() == [f"helper {name}" for name in HOLDERS]


def test_close__a_holders_wrong_partial_voids_the_round_and_is_never_garbage(ordered):
    consortium, state = ordered
    base = read_weights(state.model_path(1))
    given = consortium.help(state, "notary")
    state.sums.take("notary", given.statement, given.masks)
    given = consortium.help(state, "ethics")
    values = 4 * order_of(state).values
    wrong = given.masks[:values] + bytes(len(given.masks) - values)
    statement = verify(given.statement, MaskSum, consortium.study.protection.signing_keys["ethics"])
    digest = hashlib.sha256(wrong[values:]).hexdigest()
    signed = sign(statement.model_copy(update={"partial": digest}), read_signing_key(consortium.keys("ethics")))
    state.sums.take("ethics", signed, wrong)
    assert state.close_round_if_due()
    assert "do not open a sum over 3 sites" in state.log.openings[2].void
    assert read_weights(state.model_path(2)).digest == base.digest


def test_close__openfhe_that_dies_leaves_the_round_as_it_was(ordered, monkeypatch, tmp_path):
    consortium, state = ordered
    consortium.ask_helpers(state)
    dying = tmp_path / "python"
    dying.write_text("#!/bin/sh\nkill -KILL $$\n")
    dying.chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setenv("FEDCALL_ENCRYPTION_PYTHON", str(dying))
        with pytest.raises(bfv.ProgramFailed):
            state.close_round_if_due()
    assert state.log.open_round == 1
    assert state.close_round_if_due()
    assert state.log.openings[2].accepted == SITES


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("cut", "malformed"),
        ("beyond its modulus", "range"),
        ("another key", "mechanism"),
        ("in the clear", "tensor-names"),
    ],
)
def test_judge__what_is_no_ciphertext_of_this_study_is_refused(consortium, change, reason):
    state = consortium.open_state()
    base = read_weights(state.model_path(1))
    signed, update = consortium.answer("north", 1, base)
    envelope, tensors = read_unverified(signed, Claim)[0].envelope, load(update)
    if change == "beyond its modulus":
        tensors["ciphertexts"] = tensors["ciphertexts"].copy()
        tensors["ciphertexts"][0, 0, 0, 0] = bfv.parameters().moduli[0]
    elif change == "another key":
        envelope = envelope.model_copy(update={"key": "0" * 64})
    elif change == "in the clear":
        tensors = consortium.vector("north", 1, base)
    claim = consortium.claim("north", 1, base.digest, tensors, envelope=envelope)
    content = update[:-1] if change == "cut" else weights_bytes(tensors, {})
    answer = state.answer("north", 1, consortium.sign_claim(claim, "north"), content)
    assert verify(answer, Receipt, consortium.study.coordinator).reason == reason


def test_trust__a_report_names_the_key_holders_and_the_schemes_parameters(made):
    told = {one.topic: one.statement for one in trust(made.study)}
    assert "masked and encrypted updates" in told["The aggregator"]
    for word in (*HOLDERS, bfv.SCHEME, made.study.protection.encryption.parameters[:12]):
        assert word in told["The key holders"]
    assert any("updates are encrypted" in one.statement for one in not_covered(made.study))
