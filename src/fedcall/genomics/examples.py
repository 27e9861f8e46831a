"""Encoded candidates of one patient: what they hold, and how they lie on disk.

The file is a safetensors file (8-byte length, JSON header, raw buffers), so that opening it maps the arrays into memory
without a copy, and any safetensors reader can inspect it.
"""

import json
import mmap
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from fedcall.errors import FedcallError
from fedcall.files import atomic_path
from fedcall.genomics.observations import REPEAT

SCHEMA = "fedcall.examples/3"
WINDOW = 33
CENTRE = WINDOW // 2
"""Column of the candidate's position in a window; for indels, the base before the first changed one."""

COUNT_CHANNELS: tuple[str, ...] = tuple(
    f"{symbol}{strand}" for strand in "+-" for symbol in ("A", "C", "G", "T", "I", "I1", "D", "D1", "*")
)
"""Per position and strand: the four bases, all insertions, insertions of one base, all deletions, deletions of one base
(insertions and deletions stand at the base before them), and reads that have this position deleted."""

BASES = "ACGT"
SUBSTITUTIONS: tuple[str, ...] = tuple(f"{ref}>{alt}" for ref in BASES for alt in BASES if ref != alt)

FEATURES: tuple[str, ...] = (
    "is_indel",
    "is_insertion",
    "indel_length",
    "homopolymer_length",
    "repeat_length",
    "log_depth",
    "log_alt_depth",
    "allele_fraction",
    "ref_base_quality",
    "alt_base_quality",
    "ref_mapping_quality",
    "alt_mapping_quality",
    "ref_low_mapping_quality",
    "alt_low_mapping_quality",
    "ref_read_end",
    "alt_read_end",
    "ref_departures",
    "alt_departures",
    "ref_strand",
    "alt_strand",
    "strand_bias",
    "ref_orientation",
    "alt_orientation",
    "orientation_bias",
    "log_ratio_het_ref",
    "log_ratio_hom_het",
    "other_candidates",
    *(f"ref_{base}" for base in BASES),
    *(f"alt_{base}" for base in BASES),
    *(f"orientation_bias_{substitution}" for substitution in SUBSTITUTIONS),
)
"""Scalar features in the order of the file; all within [-3, 3], none tells the position in the genome."""

_MOST_CONTIGS = 1 << 16
"""As many as `Examples.contig` can tell apart."""
IS_INDEL = FEATURES.index("is_indel")


@dataclass(frozen=True)
class Examples:
    """Candidates of one patient (or several, after `concatenate`), n rows.

    Attributes
    ----------
    counts : uint16, shape (n, 18, 33)
        Reads per channel of `COUNT_CHANNELS` and position of the window; zero beyond the ends of the contig.
    reference : uint8, shape (n, 33)
        0..3 = A, C, G, T; 4 = anything else, or beyond the ends of the contig.
    features : float32, shape (n, len(FEATURES))
        One number each per candidate; in the file they are called scalars.
    log_likelihoods : float32, shape (n, 3)
        Natural logarithm of P(reads | 0/0, 0/1, 1/1), shifted so that the largest of a row is 0. No prior.
    labels : int8, shape (n,)
        Copies of the alternative allele in the truth, 0, 1 or 2; -1 where no label can be given.
    contig : uint16, shape (n,)
        Index into the names of `contigs`.
    position : int64, shape (n,)
        0-based position of the VCF record's first base. For writing calls; never an input of the model.
    allele_depths : int32, shape (n, 2)
        Reads that show the reference and the alternative allele.
    depth : int32, shape (n,)
        Reads that cover the position.
    allele_bytes : uint8, shape (m,)
        REF and ALT of row 0, REF and ALT of row 1, … without separators.
    allele_offsets : int64, shape (2n + 1,)
        Where each allele begins in `allele_bytes`; the last is its length.
    observations : uint32, shape (r,)
        What each fragment over row 0 shows, then over row 1, …; packed as `genomics.observations` says.
    observation_offsets : int64, shape (n + 1,)
        Where each row begins in `observations`; the last is its length.
    repeats : uint8, shape (n, 3)
        Of each indel, the repeat it stands in: columns `observations.REPEAT`.
    metadata : dict of str to str
        schema, contigs (JSON list), sample, reference_sha256, candidates, regions, …
    """

    counts: np.ndarray
    reference: np.ndarray
    features: np.ndarray
    log_likelihoods: np.ndarray
    labels: np.ndarray
    contig: np.ndarray
    position: np.ndarray
    allele_depths: np.ndarray
    depth: np.ndarray
    allele_bytes: np.ndarray
    allele_offsets: np.ndarray
    observations: np.ndarray
    observation_offsets: np.ndarray
    repeats: np.ndarray
    metadata: dict[str, str]

    def __len__(self) -> int:
        return len(self.position)

    @property
    def contigs(self) -> list[str]:
        """Names that `contig` points into."""
        names: list[str] = json.loads(self.metadata.get("contigs", "[]"))
        return names

    def alleles(self, row: int) -> tuple[str, str]:
        """Return VCF REF and ALT of a row: left-aligned and minimal."""
        start, middle, end = (int(offset) for offset in self.allele_offsets[2 * row : 2 * row + 3])
        return self.allele_bytes[start:middle].tobytes().decode(), self.allele_bytes[middle:end].tobytes().decode()

    def alleles_of(self, rows: np.ndarray) -> list[tuple[str, str]]:
        """Return REF and ALT of some rows (integers)."""
        offsets = self.allele_offsets
        first, last = (int(offsets[2 * rows.min()]), int(offsets[2 * rows.max() + 2])) if len(rows) else (0, 0)
        ends = (offsets[2 * rows + place] - first for place in range(3))
        text = self.allele_bytes[first:last].tobytes().decode()
        return [
            (text[start:middle], text[middle:end])
            for start, middle, end in zip(*(column.tolist() for column in ends), strict=True)
        ]


_DTYPES: dict[str, str] = {
    "counts": "<u2",
    "reference": "|u1",
    "features": "<f4",
    "log_likelihoods": "<f4",
    "labels": "|i1",
    "contig": "<u2",
    "position": "<i8",
    "allele_depths": "<i4",
    "depth": "<i4",
    "allele_bytes": "|u1",
    "allele_offsets": "<i8",
    "observations": "<u4",
    "observation_offsets": "<i8",
    "repeats": "|u1",
}
_IN_FILE = {"features": "scalars"}
"""Columns that have another name in the file."""
_FROM_READS = ("observations", "observation_offsets", "repeats")
_PARTS = {"allele_offsets": "allele_bytes", "observation_offsets": "observations"}
"""Columns that say where the rows of another begin."""
_LENGTHS = ("position", "allele_bytes", "observations")
_SAFETENSORS_NAMES = {"<u2": "U16", "<u4": "U32", "|u1": "U8", "<f4": "F32", "|i1": "I8", "<i8": "I64", "<i4": "I32"}


def _shapes(rows: int, allele_bytes: int, observations: int) -> dict[str, tuple[int, ...]]:
    return {
        "counts": (rows, len(COUNT_CHANNELS), WINDOW),
        "reference": (rows, WINDOW),
        "features": (rows, len(FEATURES)),
        "log_likelihoods": (rows, 3),
        "labels": (rows,),
        "contig": (rows,),
        "position": (rows,),
        "allele_depths": (rows, 2),
        "depth": (rows,),
        "allele_bytes": (allele_bytes,),
        "allele_offsets": (2 * rows + 1,),
        "observations": (observations,),
        "observation_offsets": (rows + 1,),
        "repeats": (rows, len(REPEAT)),
    }


def make_examples(alleles: Sequence[tuple[str, str]], metadata: dict[str, str], **arrays: np.ndarray) -> Examples:
    """Build examples from (REF, ALT) pairs and the other arrays; dtypes are converted, shapes are checked.

    Without `observations`, `observation_offsets` and `repeats`, no fragment is known of: a trained chemistry then
    changes nothing but the prior.

    Raises
    ------
    ValueError
        If an array is missing or its shape does not fit the number of alleles.
    """
    rows = len(alleles)
    text = [allele.encode() for pair in alleles for allele in pair]
    offsets = np.zeros(2 * rows + 1, np.int64)
    np.cumsum([len(allele) for allele in text], out=offsets[1:])
    arrays = {**arrays, "allele_bytes": np.frombuffer(b"".join(text), np.uint8), "allele_offsets": offsets}
    for name, shape in _shapes(rows, 0, 0).items():
        if name in _FROM_READS:
            arrays.setdefault(name, np.zeros(shape, _DTYPES[name]))
    return _checked(arrays, {**metadata, "schema": SCHEMA, "candidates": str(rows)})


def empty_examples(metadata: dict[str, str] | None = None) -> Examples:
    """Return examples without a row: the legal state of a patient without reads or candidates."""
    arrays = {name: np.zeros(shape, _DTYPES[name]) for name, shape in _shapes(0, 0, 0).items()}
    return _checked(arrays, {"contigs": "[]", **(metadata or {}), "schema": SCHEMA, "candidates": "0"})


def write_examples(path: Path, examples: Examples) -> None:
    """Write examples atomically as a safetensors file; equal examples give equal bytes."""
    write_joined(path, [examples])


def write_joined(
    path: Path, shards: Sequence[Examples], changed: Mapping[str, str] | None = None, without: Sequence[str] = ()
) -> None:
    """Write what `concatenate` would return, atomically, holding one column of one of the shards at a time.

    Parameters
    ----------
    changed : entries of the metadata to write instead
    without : entries to leave out
    """
    # Wide items first keeps every buffer aligned, as the format's own writer does.
    names = sorted(_DTYPES, key=lambda name: (-np.dtype(_DTYPES[name]).itemsize, _in_file(name)))
    contigs = _merged_contigs(shards)
    metadata = {
        **_shared_metadata(shards),
        **(changed or {}),
        "schema": SCHEMA,
        "contigs": json.dumps(list(contigs)),
        "candidates": str(sum(len(shard) for shard in shards)),
        "scalars": json.dumps(FEATURES),
        "count_channels": json.dumps(COUNT_CHANNELS),
    }
    metadata = {key: metadata[key] for key in sorted(metadata) if key not in without}
    header: dict[str, object] = {"__metadata__": metadata}
    shapes = _shapes(*(sum(len(getattr(shard, name)) for shard in shards) for name in _LENGTHS))
    end = 0
    for name in names:
        begin = end
        end += int(np.prod(shapes[name], dtype=np.int64)) * np.dtype(_DTYPES[name]).itemsize
        dtype = _SAFETENSORS_NAMES[_DTYPES[name]]
        header[_in_file(name)] = {"dtype": dtype, "shape": list(shapes[name]), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic_path(Path(path)) as temporary, open(temporary, "wb") as handle:
        handle.write(struct.pack("<Q", len(text)))
        handle.write(text)
        for name in names:
            for array in _joined_column(shards, contigs, name):
                handle.write(np.ascontiguousarray(array, _DTYPES[name]).data)


def open_examples(path: Path) -> Examples:
    """Map an examples file into memory, read-only and without a copy.

    Raises
    ------
    FedcallError
        If the file is missing, damaged, or of another schema than this version of fedcall writes.
    """
    path = Path(path)
    try:
        with open(path, "rb") as handle:
            content = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise FedcallError(f"{path}: no such examples file; `fedcall pileup` makes it") from None
    except ValueError:
        raise FedcallError(f"{path}: empty file, not an examples file; make it again with `fedcall pileup`") from None
    try:
        size = int(struct.unpack_from("<Q", content)[0])
        if size > len(content) - 8:
            raise ValueError("the header is longer than the file")
        header = json.loads(content[8 : 8 + size])
        metadata = header.pop("__metadata__", {})
        schema = metadata.get("schema")
        if schema == SCHEMA:
            arrays = {name: _map(content, 8 + size, header[_in_file(name)], name) for name in _DTYPES}
            if json.loads(metadata["scalars"]) != list(FEATURES):
                raise ValueError("its scalar features are not those of this version")
            examples = _checked(arrays, metadata)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FedcallError(f"{path}: damaged examples file ({error}); make it again with `fedcall pileup`") from None
    if schema != SCHEMA:
        raise FedcallError(
            f"{path}: schema {schema!r}, but this version of fedcall reads {SCHEMA!r};"
            " make the file again with `fedcall pileup`"
        )
    return examples


def concatenate(shards: Sequence[Examples]) -> Examples:
    """Join examples row by row, in the order given; names of contigs are merged, other metadata kept where equal."""
    if not shards:
        return empty_examples()
    contigs = _merged_contigs(shards)
    arrays = {name: np.concatenate(list(_joined_column(shards, contigs, name))) for name in _DTYPES}
    metadata = _shared_metadata(shards)
    metadata |= {"schema": SCHEMA, "contigs": json.dumps(list(contigs)), "candidates": str(len(arrays["position"]))}
    return _checked(arrays, metadata)


def with_labels(examples: Examples, labels: np.ndarray) -> Examples:
    """Return the same examples with other labels (int8, shape (n,))."""
    if labels.shape != (len(examples),):
        raise ValueError(f"Labels must have shape ({len(examples)},). Found {labels.shape}.")
    return replace(examples, labels=labels.astype(np.int8))


def _in_file(name: str) -> str:
    return _IN_FILE.get(name, name)


def _merged_contigs(shards: Sequence[Examples]) -> dict[str, int]:
    names = dict.fromkeys(name for shard in shards for name in shard.contigs)
    if len(names) > _MOST_CONTIGS:
        raise FedcallError(
            f"{len(names)} contigs hold candidates, and an examples file can name {_MOST_CONTIGS};"
            " name fewer with --regions"
        )
    return {name: index for index, name in enumerate(names)}


def _shared_metadata(shards: Sequence[Examples]) -> dict[str, str]:
    first = shards[0].metadata
    return {key: value for key, value in first.items() if all(shard.metadata.get(key) == value for shard in shards[1:])}


def _joined_column(shards: Sequence[Examples], contigs: Mapping[str, int], name: str) -> Iterator[np.ndarray]:
    if name in _PARTS:
        yield np.zeros(1, np.int64)
    base = 0
    for shard in shards:
        array = getattr(shard, name)
        if name == "contig":
            array = np.array([contigs[contig] for contig in shard.contigs] or [0], np.uint16)[array]
        elif name in _PARTS:
            array = array[1:] + base
            base += len(getattr(shard, _PARTS[name]))
        yield array


def _map(content: mmap.mmap, base: int, entry: dict[str, Any], name: str) -> np.ndarray:
    if entry["dtype"] != _SAFETENSORS_NAMES[_DTYPES[name]]:
        raise ValueError(f"{name} is {entry['dtype']}, expected {_SAFETENSORS_NAMES[_DTYPES[name]]}")
    begin, end = (int(offset) for offset in entry["data_offsets"])
    dtype, shape = np.dtype(_DTYPES[name]), tuple(int(size) for size in entry["shape"])
    size = int(np.prod(shape, dtype=np.int64))
    if not (0 <= begin <= end <= len(content) - base) or end - begin != size * dtype.itemsize:
        raise ValueError(f"{name} lies outside the file")
    if size == 0:
        return np.empty(shape, dtype)
    return np.frombuffer(content, dtype, size, base + begin).reshape(shape)


def _checked(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> Examples:
    missing = [field.name for field in fields(Examples) if field.name not in arrays and field.name != "metadata"]
    if missing:
        raise ValueError(f"missing {missing[0]}")
    shapes = _shapes(*(len(arrays[name]) for name in _LENGTHS))
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise ValueError(f"{name} must have shape {shape}. Found {arrays[name].shape}.")
    for name, divided in _PARTS.items():
        offsets = arrays[name]
        if offsets[0] != 0 or offsets[-1] != len(arrays[divided]) or (np.diff(offsets) < 0).any():
            raise ValueError(f"{name} do not divide {divided}")
    converted = {name: np.asarray(arrays[name]).astype(dtype, copy=False) for name, dtype in _DTYPES.items()}
    return Examples(**converted, metadata=metadata)
