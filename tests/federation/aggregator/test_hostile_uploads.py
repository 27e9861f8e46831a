"""What a registered site can send that nobody meant: spam of claims, odd headers of files, planted links."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from consortium import Consortium, make_consortium
from fedcall.documents import read_unverified
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.judging import JUDGEMENTS_OF_A_SITE
from fedcall.federation.aggregator.state import REFUSALS_IN_A_ROUND, StudyState
from fedcall.keys import read_signing_key
from fedcall.study.claims import Receipt
from fedcall.weights import read_weights


@pytest.fixture(scope="module")
def consortium(tmp_path_factory) -> Consortium:
    return make_consortium(
        tmp_path_factory.mktemp("hostile"),
        rounds=2,
        holdout={"north": 5, "south": 5},
        evaluation={"epsilon": 1.0, "regions": ["chr20"], "clip": 0.1},
    )


@pytest.fixture
def state(consortium, tmp_path) -> StudyState:
    key = read_signing_key(consortium.keys("coordinator"))
    return StudyState(tmp_path / "state", consortium.study, key, consortium.initial)


def withheld(consortium, number: int, **changes) -> bytes:
    base = read_weights(consortium.initial).digest
    return consortium.sign_claim(consortium.claim("north", number, base, None, **changes), "north")


def test_answer__spam_of_withheld_claims_does_not_fill_the_log(consortium, state):
    """Each is properly signed and differs in a word; the log is for ever, and every look at it grows with it."""
    receipts = [
        read_unverified(state.answer("north", 1, withheld(consortium, 1, software=f"x{number}"), b""), Receipt)[0]
        for number in range(REFUSALS_IN_A_ROUND + 1)
    ]
    assert [receipt.status for receipt in receipts[:2]] == ["withheld", "rejected"]
    size = state.files.log.stat().st_size
    for number in range(20):
        with pytest.raises(FedcallError, match="100 uploads of site 'north' were refused in this round"):
            state.answer("north", 1, withheld(consortium, 1, software=f"more {number}"), b"")
    assert state.files.log.stat().st_size == size
    assert len(list((state.files.folder / "quarantine").iterdir())) <= REFUSALS_IN_A_ROUND
    again = state.answer("north", 1, withheld(consortium, 1, software="x0"), b"")
    assert read_unverified(again, Receipt)[0] == receipts[0], "what was answered is answered the same, ever after"


def test_judge__spam_of_judgements_does_not_fill_the_log(consortium, state):
    for number in range(JUDGEMENTS_OF_A_SITE):
        state.judge.answer("north", consortium.judgement("north", "f" * 64, None, software=f"x{number}"), b"")
    size = state.files.log.stat().st_size
    with pytest.raises(FedcallError, match="sent 100 judgements"):
        state.judge.answer("north", consortium.judgement("north", "f" * 64, None, software="more"), b"")
    assert state.files.log.stat().st_size == size


def file_with(header: bytes, data: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def headers(tensors: dict[str, np.ndarray]) -> dict[str, bytes]:
    """Return files that say something else than they hold, by what is wrong with them; none is an honest update."""
    honest = save(tensors)
    length = struct.unpack("<Q", honest[:8])[0]
    header, data = json.loads(honest[8 : 8 + length]), honest[8 + length :]
    first, second, *_ = sorted(header)

    def changed(name: str, **values: object) -> bytes:
        return file_with(json.dumps(header | {name: header[name] | values}).encode(), data)

    twice = json.dumps(header)[:-1] + f', "{first}": ' + json.dumps(header[second]) + "}"
    deep = b'{"a":' * 20_000 + b"1" + b"}" * 20_000
    many = {f"t{number}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(1_000)}
    return {
        "a header of 2^63 bytes": file_with(b"{}", data, 2**63),
        "a header of 2^64 - 1 bytes": file_with(b"{}", data, 2**64 - 1),
        "a header longer than the file": file_with(b"{}", data, len(data) + 100),
        "a header of 100 MB and no more": file_with(b"{}", b"", 100_000_000),
        "no header": b"",
        "less than a length": b"\x01\x00",
        "no JSON": file_with(b"{" * 100, data),
        "not UTF-8": file_with(b"\xff\xfe{}", data),
        "a list": file_with(b"[]", data),
        "deeply nested": file_with(deep, data),
        "one name twice": file_with(twice.encode(), data),
        "many empty tensors": file_with(json.dumps(many).encode(), b""),
        "overlapping offsets": changed(first, data_offsets=header[second]["data_offsets"]),
        "offsets that go back": changed(first, data_offsets=header[first]["data_offsets"][::-1]),
        "offsets beyond the end": changed(first, data_offsets=[0, 2**40]),
        "negative offsets": changed(first, data_offsets=[-4, 0]),
        "another type of the same width": changed(first, dtype="I32"),
        "a wider type": changed(first, dtype="F64"),
        "eight bits": changed(first, dtype="F8_E4M3"),
        "no such type": changed(first, dtype="FLOAT"),
        "a type that is a number": changed(first, dtype=7),
        "a shape of another size": changed(first, shape=[2**31, 2**31, 2**31]),
        "a negative shape": changed(first, shape=[-1]),
        "no shape": changed(first, shape=None),
        "more data than is named": honest + bytes(4),
        "a gap in the data": file_with(json.dumps(header).encode() + b" " * 8, data[:-4]),
    }


@pytest.mark.parametrize(
    "what",
    sorted(headers({"a": np.zeros(3, np.float32), "b": np.ones(3, np.float32)})),
)
def test_answer__a_header_that_lies_is_refused(consortium, state, what):
    base = read_weights(consortium.initial)
    update = consortium.update("north", 1, base)
    claim = consortium.claim("north", 1, base.digest, update)
    signed = consortium.sign_claim(claim, "north")
    receipt, _ = read_unverified(state.answer("north", 1, signed, headers(update)[what]), Receipt)
    assert receipt.status == "rejected", receipt.sentence
    assert receipt.reason in ("malformed", "too-large", "tensor-names", "tensor-shape", "tensor-dtype")
    assert receipt.sentence.isprintable()
    assert len(receipt.sentence) < 1_000
    assert not state.files.update(1, "north").exists()


def test_state__a_planted_link_is_replaced_and_never_followed(consortium, tmp_path):
    """Whoever could write there (nobody else can: mode 0700) would have had the service overwrite another file."""
    key = read_signing_key(consortium.keys("coordinator"))
    folder, victim = tmp_path / "state", tmp_path / "victim"
    victim.write_text("as it was")
    planted = [
        folder / "rounds/1/accepted/north.safetensors",
        folder / "rounds/1/accepted/north.claim.json",
        folder / "rounds/1/receipts/north.json",
        folder / "rounds/1/global.safetensors",
        folder / "rounds/1/opening.json",
    ]
    for path in planted:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(victim)
    state = StudyState(folder, consortium.study, key, consortium.initial)
    update, claim = consortium.write_answer("north", 1, consortium.initial, tmp_path)
    receipt, _ = read_unverified(state.answer("north", 1, claim.read_bytes(), update.read_bytes()), Receipt)
    assert receipt.status == "accepted"
    assert victim.read_text() == "as it was"
    assert not any(path.is_symlink() for path in planted)
    assert Path(folder).stat().st_mode & 0o077 == 0
