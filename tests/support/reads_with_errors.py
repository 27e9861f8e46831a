"""Reads of a made-up person, with errors as often as wanted, and damage."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tiny_alignments import Read, write_alignments, write_reference

LENGTH = 100

Damage = Callable[[np.ndarray, int, np.random.Generator], None]
"""Changes a read's bases as sequenced (ASCII), in place; also given: which read of its fragment it is, and chance."""


def write_person(
    folder: Path,
    error: float,
    reported: int,
    damage: Damage | None = None,
    seed: int = 1,
    bases: int = 20_000,
    depth: int = 12,
    name: str = "reads.bam",
) -> tuple[Path, Path]:
    """Write alignments and reference of a person without variants; every mismatch is an error, or damage."""
    random = np.random.default_rng(7)
    sequence = random.choice(np.frombuffer(b"ACGT", np.uint8), bases)
    chance = np.random.default_rng(seed)
    reads = []
    for number in range(bases * depth // LENGTH):
        position = int(chance.integers(0, bases - LENGTH))
        read = sequence[position : position + LENGTH].copy()
        wrong = np.flatnonzero(chance.random(LENGTH) < error)
        for at in wrong:
            read[at] = chance.choice([base for base in b"ACGT" if base != read[at]])
        mate, reverse = 1 + number % 2, bool(chance.integers(2))
        if damage is not None:
            read = _reversed(read) if reverse else read
            damage(read, mate, chance)
            read = _reversed(read) if reverse else read
        flag = 1 | (64 if mate == 1 else 128) | (16 if reverse else 0)
        reads.append(Read(position, f"{LENGTH}M", read.tobytes().decode(), reported, flag, name=f"r{number}"))
    contigs = {"c": bases}
    reference = write_reference(folder, {"c": sequence.tobytes().decode()})
    return write_alignments(folder, contigs, reads, name), reference


def oxidised(rate: float) -> Damage:
    """Return what reads a share of guanines as T in first reads."""

    def change(read: np.ndarray, mate: int, chance: np.random.Generator) -> None:
        if mate == 1:
            read[(read == ord("G")) & (chance.random(len(read)) < rate)] = ord("T")

    return change


def _reversed(read: np.ndarray) -> np.ndarray:
    return np.frombuffer(read.tobytes().translate(bytes.maketrans(b"ACGT", b"TGCA"))[::-1], np.uint8).copy()
