"""Terms of mode encrypted: the holders' joint key is part of the study, and every signature in it is verified."""

import pytest
import typer
from pydantic import ValidationError
from typer.testing import CliRunner

from encrypted_consortium import copy_consortium, make_encrypted_consortium, needs_openfhe
from fedcall.cli.study import register
from fedcall.documents import read_unverified, sign
from fedcall.errors import FedcallError
from fedcall.keys import read_signing_key
from fedcall.protection import bfv
from fedcall.protection.ceremony import SHARES_FILE, KeyShare, read_holders_secret, read_joint_key
from fedcall.protection.helper_keys import create_helper_keys
from fedcall.study.terms import Study, read_study
from fedcall.weights import read_weights, write_weights

pytestmark = needs_openfhe


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_encrypted_consortium(tmp_path_factory.mktemp("terms"))


def changed(study, **changes):
    content = study.model_dump(mode="json")
    content["protection"] |= changes
    return Study.model_validate(content)


def test_read_study__sends_sums_and_keeps_its_key(made):
    study = read_study(made.study_path)
    assert study.sends_sums
    assert study.protection.leader == "ethics"
    assert study.digest == made.study.digest
    key = read_joint_key(study.protection.encryption, study.protection.signing_keys, made.study_path)
    assert len(key.content) == bfv.parameters().polynomial_bytes(2)
    assert changed(study, encryption=None).lacks.startswith("its holders' joint key")
    assert changed(study, encryption=None, helpers=[]).lacks.startswith("helpers, of which")


def test_check_joint_key__a_key_that_a_holder_took_no_part_in_is_refused(made, tmp_path):
    study = made.study
    joint = study.protection.encryption.model_dump(mode="json")
    swapped = joint | {"commitments": joint["commitments"][::-1]}
    fewer = joint | {"commitments": joint["commitments"][:1] * 2}
    stranger = create_helper_keys(tmp_path / "stranger", "ethics")
    forged = sign(study.protection, read_signing_key(tmp_path / "stranger")).decode()
    shown = read_unverified(joint["shares"][1].encode(), KeyShare)[0]
    elsewhere = shown.model_copy(update={"commitments": ("0" * 64, *shown.commitments[1:])})
    elsewhere = sign(elsewhere, read_signing_key(made.keys(shown.holder))).decode()  # its own word, for another key
    other = [one.model_dump() for one in study.protection.helpers]
    other[1] |= {"public_key": stranger.public_key}
    for change in (
        {"encryption": swapped},
        {"encryption": fewer},
        {"encryption": joint | {"shares": [forged, joint["shares"][1]]}},
        {"encryption": joint | {"shares": [joint["shares"][0], elsewhere]}},
        {"encryption": joint | {"ceremony": "other"}},
        {"encryption": joint | {"parameters": "0" * 64}},
        {"helpers": other},
        {"helpers": other[:1]},
        {"mode": "masked"},
    ):
        with pytest.raises(ValidationError, match="encryption"):
            changed(study, **change)


def test_read_joint_key__other_shares_than_those_committed_to_are_refused(made, tmp_path):
    consortium = copy_consortium(made, tmp_path)
    terms, path = made.study.protection, tmp_path / SHARES_FILE
    whole = path.read_bytes()
    size = len(whole) // 2
    for content in (whole[size:] + whole[:size], whole[:-8], whole + whole[:size], b""):
        path.write_bytes(content)
        with pytest.raises(FedcallError, match="does not hold the share that"):
            read_joint_key(terms.encryption, terms.signing_keys, consortium.study_path)
    path.unlink()
    with pytest.raises(FedcallError, match="the coordinator gives it with the study"):
        read_joint_key(terms.encryption, terms.signing_keys, consortium.study_path)
    share = next(consortium.keys("notary").glob("encryption-*.share"))
    share.write_bytes(bfv.make_share("ceremony pilot")[1])
    with pytest.raises(FedcallError, match="did not take part"):
        read_holders_secret(terms.encryption, terms.signing_keys, consortium.keys("notary"), "notary")


def test_open_state__without_openfhe_says_what_to_install(made, monkeypatch, tmp_path):
    consortium = copy_consortium(made, tmp_path)
    monkeypatch.setenv("FEDCALL_ENCRYPTION_PYTHON", str(tmp_path / "none"))
    bfv.parameters.cache_clear()
    for begin in (consortium.open_state, lambda: consortium.desk("notary")):
        with pytest.raises(FedcallError, match="make encryption"):
            begin()


def test_extend_and_sign__the_shares_go_along_and_other_shares_are_never_signed(made, tmp_path):
    consortium = copy_consortium(made, tmp_path / "old")
    final = tmp_path / "final.safetensors"
    tensors = read_weights(consortium.initial).tensors
    write_weights(final, tensors, {"architecture": "pileup_residual", "study": made.study.digest, "round": "3"})
    app = typer.Typer()
    register(app)
    extend = ["study", "extend", "--study", consortium.study_path, "--final", final, "--name", "next", "--rounds", "1"]
    draft, signed = tmp_path / "next/next.yaml", tmp_path / "signed/study.json"
    ran = CliRunner().invoke(app, [*map(str, extend), "--output", str(draft)])
    assert ran.exit_code == 0, ran.output
    signing = ["study", "sign", "--study", draft, "--keys", consortium.keys("coordinator"), "--output", signed]
    shares = draft.parent / SHARES_FILE
    whole = shares.read_bytes()
    shares.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    ran = CliRunner().invoke(app, list(map(str, signing)))
    assert isinstance(ran.exception, FedcallError)
    assert not signed.exists()
    shares.write_bytes(whole)
    ran = CliRunner().invoke(app, list(map(str, signing)))
    assert ran.exit_code == 0, ran.output
    study = read_study(signed)
    assert (study.name, (signed.parent / SHARES_FILE).read_bytes()) == ("next", whole)
