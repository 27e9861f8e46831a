"""Point 1: two runs of one study, with and without people whose budget is spent, differ in nothing but noise."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fedcall.documents import read_unverified
from fedcall.federation.aggregator.state import StudyState
from fedcall.federation.flower.messages import Request, pack_request
from fedcall.keys import read_secret, read_signing_key
from fedcall.privacy.events import Event
from fedcall.privacy.ledger.ledger import Ledger, ReleaseRequest
from fedcall.study.claims import Claim, Receipt
from fedcall.study.judgement import Judgement
from fedcall.weights import read_weights
from study_chain import HELD_OUT, PATIENTS, RELEASES, Chain, write_site

EVENT = Event(unit="patient", mechanism="gaussian", noise_multiplier=12.0, sampling_rate=1.0, steps=8)
SPENT = ("p0", "h1", "h2")
DIGITS = "total"  # the one number whose length follows from its value, which is noise


def spend(chain: Chain) -> None:
    """Charge some people in another study until nothing of theirs is left."""
    with Ledger.open(chain.ledger, read_secret(chain.folder / "keys")) as ledger:
        for person in SPENT:
            study = person.encode().hex().ljust(64, "0")
            request = ReleaseRequest(study, "north", 1, EVENT, 0.04, 3.0, (person,), "f" * 64)
            while ledger.reserve(request).charged:
                request = replace(request, round=request.round + 1)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Chain, Chain]:
    """Return the two runs: the same keys, study and data, and a ledger with another past."""
    source = write_site(tmp_path_factory.mktemp("site"), max_epsilon=3.0)
    everybody, some = (Chain(source, tmp_path_factory.mktemp(name)) for name in ("everybody", "some"))
    spend(some)
    for chain in (everybody, some):
        chain.run()
    return everybody, some


def shape_of(value: object, key: str = "") -> object:
    """Return kinds, fields and lengths of what is in a document, without its values."""
    if isinstance(value, dict):
        return {name: shape_of(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [shape_of(one) for one in value]
    return type(value).__name__, len(str(value)) if key != DIGITS else None


def values_of(value: object, at: str = "") -> dict[str, object]:
    """Return every value of a document by its path."""
    if isinstance(value, dict):
        return {path: one for name, part in value.items() for path, one in values_of(part, f"{at}.{name}").items()}
    if isinstance(value, list):
        return {path: one for row, part in enumerate(value) for path, one in values_of(part, f"{at}.{row}").items()}
    return {at: value}


def differing(one: bytes, other: bytes) -> set[str]:
    found = [values_of(json.loads(document)) for document in (one, other)]
    assert found[0].keys() == found[1].keys()
    return {path.rpartition(".")[2] for path in found[0] if found[0][path] != found[1][path]}


def test_promise_1__the_people_whose_budget_is_spent_really_took_no_part(both: tuple[Chain, Chain]) -> None:
    found = []
    for chain in both:
        with Ledger.open_to_read(chain.ledger) as ledger:
            found.append([ledger.exhausted(chain.study.digest), chain.study.judging_round])
        assert chain.rows()[-4:] == RELEASES
    assert found == [[{1: 0, 2: 0}, 2], [{1: 1, 2: 2}, 2]]
    assert (PATIENTS, HELD_OUT) == (2, 4)


def test_promise_1__what_crosses_the_wire_has_equal_lengths_and_fields(both: tuple[Chain, Chain]) -> None:
    kept = {
        "study",
        "site",
        "round",
        "outcome",
        "base",
        "privacy",
        "epsilon",
        "clipping",
        "software",
        "initial",
        "people",
    }
    for name, document, number in (("claim.json", Claim, 1), ("judgement.json", Judgement, 2)):
        contents = [chain.out(name).read_bytes() for chain in both]
        assert len({json.dumps(shape_of(json.loads(content))) for content in contents}) == 1
        assert not differing(*contents) & kept
        read = [read_unverified(content, document)[0] for content in contents]
        assert {type(one) for one in read} == {document}
        update = both[0].out("update.safetensors").read_bytes() if number == 1 else b""
        other = both[1].out("update.safetensors").read_bytes() if number == 1 else b""
        lengths = []
        for chain, content, file in zip(both, contents, (update, other), strict=True):
            packed = pack_request(Request("upload", chain.study.digest, number, content, file))
            digits = len(str(getattr(read[0 if chain is both[0] else 1], DIGITS, "")))
            lengths.append(
                sum(
                    len(bytes(value)) if isinstance(value, bytes) else len(str(value))
                    for value in packed["fedcall"].values()
                )
                - digits
            )
        assert lengths[0] == lengths[1]
    first, second = (read_weights(chain.out("update.safetensors")) for chain in both)
    assert first.metadata == second.metadata
    assert {name: (one.shape, one.dtype) for name, one in first.tensors.items()} == {
        name: (one.shape, one.dtype) for name, one in second.tensors.items()
    }
    for name, tensor in first.tensors.items():
        if tensor.size > 100:
            assert np.linalg.norm(tensor) == pytest.approx(np.linalg.norm(second.tensors[name]), rel=0.3), name
        assert not np.array_equal(tensor, second.tensors[name]), "another sum gets other noise"


def test_promise_1__answers_are_the_same_sentences(both: tuple[Chain, Chain]) -> None:
    for name in ("receipt.json", "judged.json"):
        receipts = [chain.out(name).read_bytes() for chain in both]
        assert len(receipts[0]) == len(receipts[1])
        assert differing(*receipts) <= {"claim", "ledger_head", "log_head", "signature"}
        assert {read_unverified(one, Receipt)[0].sentence for one in receipts} == {"accepted"} or name == "receipt.json"
    verdicts = [chain.out("verdict.json").read_bytes() for chain in both]
    assert differing(*verdicts) == {"total", "final", "log_head", "signature"}


def test_promise_1__the_coordinators_state_differs_only_in_noise(both: tuple[Chain, Chain]) -> None:
    folders = [chain.folder / "aggregator" for chain in both]
    files = [
        {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()} for folder in folders
    ]
    assert files[0].keys() == files[1].keys()
    for path, one in files[0].items():
        other = files[1][path]
        if path.suffix == ".safetensors":
            assert one.stat().st_size == other.stat().st_size, path
            assert read_weights(one).metadata.keys() == read_weights(other).metadata.keys()
        elif path.suffix == ".json":
            assert shape_of(json.loads(one.read_bytes())) == shape_of(json.loads(other.read_bytes())), path
    states = [
        StudyState(folder, chain.study, read_signing_key(chain.folder / "keys"), chain.initial)
        for folder, chain in zip(folders, both, strict=True)
    ]
    logs = [
        [
            {**line.entry.model_dump(mode="json"), "previous": line.previous, "head": line.head}
            for line in state.log.log.lines
        ]
        for state in states
    ]
    assert len(logs[0]) == len(logs[1])
    noise = {"base", "claim", "content", "update", "judgement", "document", "total", "ledger_head"}
    for mine, theirs in zip(*logs, strict=True):
        assert mine.keys() == theirs.keys()
        assert shape_of(mine) == shape_of(theirs)
        found = {path.rpartition(".")[2] for path, value in values_of(mine).items() if values_of(theirs)[path] != value}
        assert found <= noise | {"head", "previous"}, found
