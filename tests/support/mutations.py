"""Structure-aware mutations of valid claims, updates and messages: what a broken or hostile site might send."""

import copy
import json
import random
from typing import Any, cast

from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

NASTY: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**53, 2**63, 2**64, 10**30, 1e308, -1e308, 5e-324, 0.1, float("nan"),
    float("inf"), "", "0", "1", "\0", "\ud800", "\u202e", "é" * 50, "A" * 100_000, "../../etc/passwd", "north\n",
    "0" * 64, "f" * 64, [], {}, [[]], [0] * 1000, {"": {}}, {"__proto__": 1},
)  # fmt: skip
JSON_TEXTS = (b"9" * 5000, b"1e999999", b"-0", b"1E400", b"[" * 20_000, b'{"a":' * 20_000, b"NaN", b'"\\ud800"')


def mutate_bytes(generator: random.Random, content: bytes) -> bytes:
    """Flip bits, cut, stretch, repeat or overwrite a piece."""
    data = bytearray(content)
    kind = generator.randrange(6)
    place = generator.randrange(len(data) + 1)
    length = generator.choice([1, 2, 8, 64, 1000])
    if kind == 0:
        for _ in range(generator.choice([1, 1, 1, 8])):
            data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
    elif kind == 1:
        del data[place:]
    elif kind == 2:
        del data[place : place + length]
    elif kind == 3:
        data[place:place] = generator.randbytes(length)
    elif kind == 4:
        data[place:place] = data[place : place + length]
    else:
        data[place : place + length] = generator.randbytes(length)
    return bytes(data)


def mutate_document(generator: random.Random, signed: bytes) -> bytes:
    """Change a signed document as text: keys, values, spaces, repeated keys, numbers as text, deep nesting."""
    envelope = json.loads(signed)
    kind = generator.randrange(6)
    if kind == 0:  # the same document in other bytes: the signature still holds
        return json.dumps(envelope, indent=generator.choice([None, 1]), sort_keys=generator.random() < 0.5).encode()
    if kind == 1:  # a key twice, the second as it was
        key = generator.choice(list(envelope["body"]))
        value = json.dumps(generator.choice([1, "x", None])).encode()
        return signed.replace(b'"body":{', b'"body":{"%s":%s,' % (key.encode(), value), 1)
    if kind == 2:  # a number as text, an integer as a fraction, true for one
        text = signed.replace(b'"round":1', generator.choice([b'"round":"1"', b'"round":1.0', b'"round":true']))
        return text if text != signed else signed + b" "
    if kind == 3:  # text that Python's reader may choke on, in place of a value
        value = json.dumps(generator.choice(list(envelope["body"].values())), separators=(",", ":")).encode()
        return signed.replace(value, generator.choice(JSON_TEXTS), 1)
    if kind == 4:  # unused bits of base64
        return signed.replace(b'=="', b'%c=="' % generator.choice(b"ABCDwxyz"), 1)
    _mutate_tree(generator, envelope)
    return json.dumps(envelope, separators=(",", ":"), sort_keys=True).encode("utf-8", "replace")


def mutate_body(generator: random.Random, body: dict[str, Any]) -> dict[str, Any]:
    """Change what a claim says in a way that no honest claim of this update could say; for signing again."""
    changed = copy.deepcopy(body)
    key = generator.choice(["study", "site", "round", "outcome", "base", "update", "privacy", "epsilon", "clipping"])
    if key == "privacy":
        inner = generator.choice(list(changed["privacy"]))
        changed["privacy"][inner] = generator.choice([*NASTY, 1e-300, 1e300, 0.5, 3, "laplace", "example", "adaptive"])
    elif key == "epsilon":
        changed["epsilon"] = generator.choice([None, 0.0, -1.0, 0.5 * body["epsilon"], 1e308])
    else:
        changed[key] = generator.choice([*NASTY, "south", "withheld", {"start": 1.0, "shares": [0.5, 0.5]}])
    return changed


def mutate_update(generator: random.Random, update: bytes) -> bytes:
    """Change a safetensors file, or lie in its header about lengths, shapes, types and offsets."""
    if generator.random() < 0.3:
        return mutate_bytes(generator, update)
    length = int.from_bytes(update[:8], "little")
    header, data = json.loads(update[8 : 8 + length]), update[8 + length :]
    kind = generator.randrange(4)
    if kind == 0:
        lie = generator.choice([0, 1, length - 1, length + 1, len(update), 2**31, 2**63, 2**64 - 1])
        return lie.to_bytes(8, "little") + update[8:]
    text = b""
    if kind == 1:
        _mutate_tree(generator, header)
    elif kind == 2:
        name = generator.choice([name for name in header if name != "__metadata__"])
        field = generator.choice(["dtype", "shape", "data_offsets"])
        header[name][field] = {
            "dtype": generator.choice(["F64", "F16", "BF16", "I32", "BOOL", "F8_E4M3", "U8", "F999", ""]),
            "shape": generator.choice([[], [0], [-1], [1], [2**62, 4], [2**64], [8, 6, 5, 1], [5, 6, 8], "8"]),
            "data_offsets": generator.choice([[0, 0], [0, 2**63], [-4, 4], [4, 0], [0, 4], [0, len(data)], []]),
        }[field]
    else:
        text = json.dumps(header).encode()
        name = json.dumps(generator.choice(list(header))).encode()
        text = text.replace(b"{", b"{%s:{}," % name, 1) if generator.random() < 0.5 else b"[" * 30_000
    text = text or json.dumps(header).encode("utf-8", "replace")
    return len(text).to_bytes(8, "little") + text + data


def mutate_message(generator: random.Random, content: RecordDict) -> RecordDict:
    """Change the Flower records of a request: missing, extra and other records, keys and types."""
    fields = dict(cast(ConfigRecord, content["fedcall"]))
    file = content.get("file")
    kind = generator.randrange(5)
    if kind == 0:
        del fields[generator.choice(list(fields))]
    elif kind == 1:
        fields[generator.choice([*fields, "more"])] = generator.choice(
            [
                0,
                -1,
                2**40,
                True,
                1.5,
                float("nan"),
                "",
                "upload",
                b"",
                b"{}",
                b"[" * 20_000,
                [1, 2],
                ["a"],
                "\u202e" * 99,
            ]
        )
    result = RecordDict({"fedcall": ConfigRecord(cast(Any, fields))})
    if kind == 2:
        result = RecordDict({generator.choice(["fedcall", "", "x"]): MetricRecord({"a": 1})})
    if kind == 3:
        file = ArrayRecord({name: Array("float32", (2**40,), "numpy.ndarray", b"no") for name in ("file", "b")})
    if kind == 4:
        result["fedcall"] = ArrayRecord({"file": Array("uint8", (1,), "raw", b"\0")})
    if file is not None and generator.random() < 0.9:
        result["file"] = file
    return result


def _mutate_tree(generator: random.Random, tree: Any) -> None:
    """Change one node of a JSON tree in place."""
    nodes: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        items: Any = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            nodes.append((node, key))
            walk(value)

    walk(tree)
    parent, key = generator.choice(nodes)
    change = generator.choice([0, 1, 1, 1, 2])
    if change == 0:
        del parent[key]
    elif change == 1 or not isinstance(parent, dict):
        parent[key] = generator.choice(NASTY)
    else:
        parent[generator.choice(["", "extra", key + "s", key.upper() + "\ud800"])] = parent.pop(key)
