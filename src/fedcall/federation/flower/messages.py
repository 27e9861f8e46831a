"""What a site and the aggregator say to each other: one request, one answer, carried in Flower messages.

An exchange is always the same: the site's node comes online, the aggregator asks what it wants (`ASK`), the site
replies with a `Request`, the aggregator sends an `Answer` in a message of its own. A file travels among the fields, or,
if it is large, as one Flower array of raw bytes, which Flower splits into chunks; it is never unpacked by Flower.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fedcall.errors import FedcallError
from fedcall.shown import shown

ASK = "query.ask"
ANSWER = "query.answer"

_FIELDS = "fedcall"
_FILE = "file"
# Each object of a message costs a call at both ends, an array three objects. A chunk has 5 MiB, and a claim must fit.
_LARGE_BYTES = 4 * 1024 * 1024
_SENTENCE_CHARACTERS = 2000


RequestKind = Literal["fetch", "upload", "log", "verdict", "nothing", "order", "listed", "masks", "refusal", "evidence"]
AnswerKind = Literal[
    "model", "receipt", "log", "verdict", "wait", "refused", "order", "listed", "taken", "done", "evidence"
]


@dataclass(frozen=True)
class Request:
    """What a site wants: a round's model, an answer to its claim or judgement, the log, the verdict; or nothing now.

    Nothing is what a node says that stays online, a stock SuperNode. A helper wants a sum order, or has an answer to
    one: masks with a signed statement, or a sentence why it gives none, in place of the claim. A key holder wants a
    listed update, too: that of the site named in place of the claim. Before it uploads in a sealed study,
    a site asks for the enclave's evidence.
    """

    kind: RequestKind
    study: str
    round: int
    claim: bytes = b""
    update: bytes = b""


@dataclass(frozen=True)
class Answer:
    """What a site gets: a model with its opening, a receipt, the log as it may see it, the verdict, or why not (yet).

    The sentence of a model is a reason not to train on it, empty if there is none. A helper gets an order with its
    papers, or a listed update (in place of the model), hears that its answer was taken, or that the study is done.
    An enclave's evidence is an `EvidenceOffer`.
    """

    kind: AnswerKind
    document: bytes = b""
    model: bytes = b""
    sentence: str = ""


def pack_request(request: Request) -> RecordDict:
    """Return the Flower records of a request."""
    fields: dict[str, object] = {
        "kind": request.kind,
        "study": request.study,
        "round": request.round,
        "claim": request.claim,
    }
    return _pack(fields, request.update)


def unpack_request(content: RecordDict) -> Request:
    """Return the request in Flower records that come from anywhere.

    Raises
    ------
    FedcallError
        If the records are not a request.
    """
    fields, update = _unpack(content)
    claim = fields.get("claim")
    if not isinstance(claim, bytes):
        raise FedcallError("not a request of fedcall")
    return read_request(fields, claim, update)


def read_request(fields: Mapping[str, object], claim: bytes, update: bytes) -> Request:
    """Return a request from its fields kind, study and round, which come from anywhere; FedcallError if it is none."""
    kind, study, number = (fields.get(name) for name in ("kind", "study", "round"))
    if kind not in get_args(RequestKind) or not isinstance(study, str):
        raise FedcallError("not a request of fedcall")
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 1_000_000:
        raise FedcallError(f"a round between 1 and 1000000 expected, found {number!r}")
    return Request(cast(RequestKind, kind), study, number, claim, update)


def pack_answer(answer: Answer) -> RecordDict:
    """Return the Flower records of an answer."""
    fields = {"kind": answer.kind, "document": answer.document, "sentence": answer.sentence}
    return _pack(fields, answer.model)


def unpack_answer(content: RecordDict) -> Answer:
    """Return the answer in Flower records that come from anywhere; FedcallError if there is none."""
    fields, model = _unpack(content)
    kind, document, sentence = (fields.get(name) for name in ("kind", "document", "sentence"))
    if kind not in get_args(AnswerKind) or not isinstance(document, bytes):
        raise FedcallError(
            "the aggregator's answer is not one of fedcall; is this the address of a fedcall aggregator?"
        )
    return Answer(cast(AnswerKind, kind), document, model, shown(sentence, _SENTENCE_CHARACTERS))


def _pack(fields: Mapping[str, object], file: bytes) -> RecordDict:
    is_large = len(file) > _LARGE_BYTES
    content = RecordDict({_FIELDS: ConfigRecord(cast(Any, {**fields, _FILE: b"" if is_large else file}))})
    if is_large:
        content[_FILE] = ArrayRecord({_FILE: Array(dtype="uint8", shape=(len(file),), stype="raw", data=file)})
    return content


def _unpack(content: RecordDict) -> tuple[dict[str, object], bytes]:
    record = content.get(_FIELDS)
    if not isinstance(record, ConfigRecord):
        raise FedcallError("not a message of fedcall")
    arrays = content.get(_FILE)
    if arrays is None:
        file = record.get(_FILE, b"")
        if not isinstance(file, bytes):
            raise FedcallError("not a message of fedcall: a file of bytes expected")
        return dict(record), file
    if not isinstance(arrays, ArrayRecord) or set(arrays) != {_FILE}:
        raise FedcallError("not a message of fedcall: one file expected")
    return dict(record), bytes(arrays[_FILE].data)
