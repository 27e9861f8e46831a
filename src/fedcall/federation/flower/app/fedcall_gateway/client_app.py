"""Hands files over between a folder of the hospital and the aggregator. It opens, trains and decides nothing.

The folder is named by the SuperNode's own --node-config, never by the aggregator. `fedcall fetch --handover` and
`fedcall upload --handover` write there what the hospital wants and check every signature of what comes back.
This file uses nothing but Flower's public interface and the standard library; its hash is what a site pins.
"""

import base64
import json
import os
import time
from pathlib import Path

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

WAIT_SECONDS = 45.0  # for the hospital to want something, before saying that it wants nothing
LOOK_SECONDS = 0.5
LARGE_BYTES = 4 * 1024 * 1024  # a larger file travels as an array, which Flower splits

app = ClientApp()


@app.query("ask")
def ask(message: Message, context: Context) -> Message:
    """Reply with what the hospital wants, once it wants something."""
    folder = Path(str(context.node_config["handover"]))
    end = time.monotonic() + WAIT_SECONDS
    while (request := _request(folder)) is None and time.monotonic() < end:
        time.sleep(LOOK_SECONDS)
    if request is None:
        fields = {"kind": "nothing", "study": _study(folder), "round": 1, "claim": b""}
        return Message(RecordDict({"fedcall": ConfigRecord(fields)}), reply_to=message)
    wish, claim, update = request
    context.state["fedcall"] = ConfigRecord({"request": wish["id"]})
    fields = {"kind": wish["kind"], "study": wish["study"], "round": wish["round"], "claim": claim}
    is_large = len(update) > LARGE_BYTES
    content = RecordDict({"fedcall": ConfigRecord({**fields, "file": b"" if is_large else update})})
    if is_large:
        content["file"] = ArrayRecord({"file": Array(dtype="uint8", shape=(len(update),), stype="raw", data=update)})
    return Message(content, reply_to=message)


@app.query("answer")
def answer(message: Message, context: Context) -> Message:
    """Leave the aggregator's answer in the folder."""
    folder = Path(str(context.node_config["handover"]))
    fields = message.content["fedcall"]
    asked = context.state["fedcall"]["request"] if "fedcall" in context.state else ""
    file = message.content["file"]["file"].data if "file" in message.content else fields["file"]
    _write(folder / "answer.file", bytes(file))
    document = base64.b64encode(bytes(fields["document"])).decode()
    found = {"request": asked, "kind": fields["kind"], "document": document, "sentence": fields["sentence"]}
    _write(folder / "answer.json", json.dumps(found).encode())
    return Message(RecordDict({"fedcall": ConfigRecord({"kind": "taken"})}), reply_to=message)


def _request(folder: Path) -> tuple[dict[str, str], bytes, bytes] | None:
    try:
        wish = json.loads((folder / "request.json").read_bytes())
        claim = (folder / f"{wish['id']}.claim").read_bytes()
        return wish, claim, (folder / f"{wish['id']}.update").read_bytes()
    except FileNotFoundError:
        return None


def _study(folder: Path) -> str:
    try:
        return (folder / "study").read_text()
    except FileNotFoundError:
        return ""


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".part")
    temporary.write_bytes(content)
    os.replace(temporary, path)
