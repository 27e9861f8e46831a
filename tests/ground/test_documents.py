"""Signed documents: what was signed is what is read, and nothing else is."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from fedcall.documents import Document, public_text, read_signed, sign, verify, write_signed
from fedcall.errors import FedcallError
from fedcall.study.aggregation_terms import AggregationTerms
from fedcall.study.terms import AdmissionTerms


class Note(Document):
    text: str
    number: float


class Perhaps(Document):
    number: float | None


class Memo(Document):
    text: str
    number: float


KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = public_text(KEY.public_key())


@given(st.text(), st.floats(allow_nan=False, allow_infinity=False))
def test_sign_verify__round_trip(text, number):
    note = Note(text=text, number=number)
    assert verify(sign(note, KEY), Note, PUBLIC) == note


def test_sign__same_document_same_bytes():
    assert sign(Note(text="a", number=0.1), KEY) == sign(Note(number=0.1, text="a"), KEY)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_verify__any_changed_byte_is_refused(position, flip):
    signed = bytearray(sign(Note(text="spent 1.5", number=1.5), KEY))
    signed[position % len(signed)] ^= flip
    with pytest.raises(FedcallError):
        verify(bytes(signed), Note, PUBLIC)


def test_verify__another_key_is_refused():
    other = public_text(Ed25519PrivateKey.generate().public_key())
    with pytest.raises(FedcallError, match="another key"):
        verify(sign(Note(text="a", number=1), KEY), Note, other)


def test_verify__forged_key_name_is_refused():
    envelope = json.loads(sign(Note(text="a", number=1), Ed25519PrivateKey.generate()))
    envelope["public_key"] = PUBLIC
    with pytest.raises(FedcallError, match="does not match"):
        verify(json.dumps(envelope).encode(), Note, PUBLIC)


def test_verify__a_document_does_not_pass_for_another_kind():
    with pytest.raises(FedcallError, match="does not match"):
        verify(sign(Note(text="a", number=1), KEY), Memo, PUBLIC)


@pytest.mark.parametrize("signed", [b"", b"[]", b"{}", b"\xff", b'{"body": {}, "public_key": 1, "signature": 2}'])
def test_verify__garbage_is_refused(signed):
    with pytest.raises(FedcallError, match="note:"):
        verify(signed, Note, PUBLIC)


def test_verify__signature_of_wrong_type_is_refused():
    envelope = json.loads(sign(Note(text="a", number=1), KEY))
    for signature in (None, 3, "???", base64.b64encode(b"short").decode()):
        with pytest.raises(FedcallError):
            verify(json.dumps({**envelope, "signature": signature}).encode(), Note, PUBLIC)


def test_read_signed__names_the_file(tmp_path):
    path = tmp_path / "note.json"
    with pytest.raises(FedcallError, match=r"note\.json: no such file"):
        read_signed(path, Note, PUBLIC)
    write_signed(path, Note(text="a", number=1), KEY)
    assert read_signed(path, Note, PUBLIC).text == "a"
    path.write_bytes(path.read_bytes().replace(b'"a"', b'"b"'))
    with pytest.raises(FedcallError, match=r"note\.json: note: the signature"):
        read_signed(path, Note, PUBLIC)


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_sign__a_number_that_json_writes_as_null_is_never_signed(number):
    with pytest.raises(FedcallError, match="note: number is not a finite number"):
        sign(Note(text="", number=number), KEY)


@pytest.mark.parametrize("number", ["Infinity", "-Infinity", "NaN", '"inf"', "1e999"])
def test_verify__the_signature_of_null_passes_for_no_other_value(number):
    """Null means 'no number'; with one signature for both, whoever carries a document could make it mean infinity."""
    signed = sign(Perhaps(number=None), KEY)
    assert verify(signed, Perhaps, PUBLIC).number is None
    with pytest.raises(FedcallError, match="not a finite number"):
        verify(signed.replace(b"null", number.encode()), Perhaps, PUBLIC)


def test_study_terms__numbers_that_no_signature_holds_are_refused():
    for admission in ({"max_update_norm": float("inf")}, {"outlier_ratio": float("nan")}):
        with pytest.raises(ValueError, match="finite"):
            AdmissionTerms.model_validate(admission)
    with pytest.raises(ValueError, match="finite"):
        AggregationTerms(deadline_minutes=float("inf"))
