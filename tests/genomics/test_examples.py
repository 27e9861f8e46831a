"""Examples on disk and in memory."""

import json
import struct
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from fedcall.errors import FedcallError
from fedcall.genomics.examples import (
    FEATURES,
    SCHEMA,
    Examples,
    concatenate,
    empty_examples,
    make_examples,
    open_examples,
    with_labels,
    write_examples,
)
from made_examples import sample_examples


def assert_same(one: Examples, other: Examples) -> None:
    for field in fields(Examples):
        if field.name != "metadata":
            found, expected = getattr(one, field.name), getattr(other, field.name)
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("rows", [0, 1, 17])
def test_write_examples__round_trip(tmp_path: Path, rows: int) -> None:
    examples = sample_examples(rows)
    path = tmp_path / "p.safetensors"
    write_examples(path, examples)
    found = open_examples(path)
    assert_same(found, examples)
    assert [found.alleles(row) for row in range(rows)] == [examples.alleles(row) for row in range(rows)]
    assert found.metadata["sample"] == "p0"
    assert found.contigs == ["1", "2"]
    first = path.read_bytes()
    write_examples(path, found)
    assert path.read_bytes() == first


def test_write_examples__other_readers_understand(tmp_path: Path) -> None:
    examples = sample_examples(5)
    write_examples(tmp_path / "p.safetensors", examples)
    tensors = safetensors.numpy.load_file(tmp_path / "p.safetensors")
    np.testing.assert_array_equal(tensors["counts"], examples.counts)
    np.testing.assert_array_equal(tensors["position"], examples.position)


def test_open_examples__copies_nothing(tmp_path: Path) -> None:
    write_examples(tmp_path / "p.safetensors", sample_examples(9))
    found = open_examples(tmp_path / "p.safetensors")
    assert not found.counts.flags.owndata
    assert not found.counts.flags.writeable
    assert found.position.ctypes.data % 8 == 0


def test_open_examples__missing(tmp_path: Path) -> None:
    with pytest.raises(FedcallError, match="no such examples file"):
        open_examples(tmp_path / "p.safetensors")


def test_open_examples__another_schema(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    write_examples(path, sample_examples(3))
    path.write_bytes(path.read_bytes().replace(SCHEMA.encode(), SCHEMA[:-1].encode() + b"0"))
    with pytest.raises(FedcallError, match=r"schema 'fedcall.examples/0'.*make the file again"):
        open_examples(path)


def test_open_examples__a_model_file(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"w": np.zeros(3)}, tmp_path / "m.safetensors")
    with pytest.raises(FedcallError, match="schema None"):
        open_examples(tmp_path / "m.safetensors")


@given(cut=st.integers(0, 2_000))
def test_open_examples__cut_off(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "p.safetensors"
    write_examples(path, sample_examples(1))
    content = path.read_bytes()
    path.write_bytes(content[: min(cut, len(content) - 1)])
    with pytest.raises(FedcallError, match=r"p\.safetensors"):
        open_examples(path)


def test_open_examples__header_lies_about_a_buffer(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    write_examples(path, sample_examples(2))
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    header["counts"]["data_offsets"][1] += 1_000_000
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])
    with pytest.raises(FedcallError, match="damaged"):
        open_examples(path)


def test_concatenate__rows_alleles_and_contigs() -> None:
    one, other = sample_examples(4, 1, ("1", "2")), sample_examples(6, 2, ("2", "chr3"))
    both = concatenate([one, empty_examples(), other])
    assert len(both) == 10
    assert [both.alleles(row) for row in range(10)] == [
        *(one.alleles(row) for row in range(4)),
        *(other.alleles(row) for row in range(6)),
    ]
    names = [one.contigs[k] for k in one.contig] + [other.contigs[k] for k in other.contig]
    assert [both.contigs[k] for k in both.contig] == names
    np.testing.assert_array_equal(both.counts[4:], other.counts)
    assert both.metadata["candidates"] == "10"
    assert "sample" not in both.metadata


def test_concatenate__nothing() -> None:
    assert len(concatenate([])) == 0


def test_make_examples__wrong_shape() -> None:
    arrays = {
        field.name: getattr(sample_examples(3), field.name)
        for field in fields(Examples)
        if field.name not in ("metadata", "allele_bytes", "allele_offsets")
    }
    with pytest.raises(ValueError, match="labels must have shape"):
        make_examples([("A", "C")] * 3, {}, **{**arrays, "labels": np.zeros(2)})


def test_with_labels() -> None:
    examples = with_labels(sample_examples(3), np.array([0, 1, -1]))
    assert examples.labels.tolist() == [0, 1, -1]
    with pytest.raises(ValueError, match="shape"):
        with_labels(examples, np.zeros(2))


def test_features__tell_no_position() -> None:
    assert not [name for name in FEATURES if "position" in name or "contig" in name]
    assert len(set(FEATURES)) == len(FEATURES)
