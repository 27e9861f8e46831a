"""Mutate records of a BAM file and extract examples from it: `python fuzz_records.py FOLDER RECORDS`.

Run with NUMBA_BOUNDSCHECK=1, so that a read or write outside an array, which compiled code would not notice, raises.
"""

import random
import struct
import sys
import zlib
from pathlib import Path

import pysam

from fedcall.errors import FedcallError
from fedcall.genomics.pileup.extraction import extract_examples
from tiny_alignments import write_reference

SEQUENCE = "".join(random.Random(5).choices("ACGT", k=2_000))
RECORDS_A_FILE = 40
CIGARS = ("30M", "5S20M5S", "10M1I5M2D14M", "3I27M", "10M2I3D18M", "10=5X15M", "12M50N18M", "2H15M1D15M")
HEADER_BYTES = 18
FIXED_FIELDS = 36


def write_stored(folder: Path) -> tuple[Path, int]:
    """Write an indexed BAM whose blocks are stored, not deflated; return it and the place of the records' block."""
    header = pysam.AlignmentHeader.from_dict(
        {"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": [{"SN": "c", "LN": len(SEQUENCE)}]}
    )
    path = folder / "stored.bam"
    with pysam.AlignmentFile(str(path), "wbu", header=header) as handle:
        for number in range(RECORDS_A_FILE):
            segment = pysam.AlignedSegment(header)
            segment.query_name = f"f{number // 2}"
            segment.flag = 0x43 if number % 2 == 0 else 0x93
            segment.reference_id = segment.next_reference_id = 0
            segment.reference_start = 100 + 3 * number
            segment.next_reference_start = 103 + 3 * number if number % 2 == 0 else 97 + 3 * number
            segment.mapping_quality = 60
            segment.cigarstring = CIGARS[number % len(CIGARS)]
            segment.query_sequence = SEQUENCE[segment.reference_start :][: segment.infer_query_length()]
            segment.query_qualities = [35] * len(segment.query_sequence)
            handle.write(segment)
    pysam.index(str(path))
    content = path.read_bytes()
    return path, struct.unpack_from("<H", content, 16)[0] + 1


def mutate(block: bytes, generator: random.Random, chosen: set[int]) -> bytes:
    """Change a few bytes of the chosen records of a stored block, mostly of their numbers; correct its checksum."""
    # 18 bytes of header, 5 of the deflate block, the data, checksum and length.
    changed = []
    data = bytearray(block[HEADER_BYTES + 5 : -8])
    at = 0
    for record in range(RECORDS_A_FILE):
        length = 4 + struct.unpack_from("<i", data, at)[0]
        for _ in range(generator.choice((1, 1, 2, 4)) if record in chosen else 0):
            reach = FIXED_FIELDS + 20 if generator.random() < 0.7 else length
            value = generator.choice((0, 1, 0x7F, 0x80, 0xFF, generator.randrange(256)))
            changed.append((at + generator.randrange(min(reach, length)), value))
        at += length
    for place, value in changed:
        data[place] = value
    return block[: HEADER_BYTES + 5] + bytes(data) + struct.pack("<II", zlib.crc32(bytes(data)), len(data))


def main(folder: Path, records: int) -> None:
    """Print how many files were refused and how many gave examples; any other end is a failure."""
    reference = write_reference(folder, {"c": SEQUENCE})
    path, place = write_stored(folder)
    content = path.read_bytes()
    size = struct.unpack_from("<H", content, place + 16)[0] + 1
    block = content[place : place + size]
    whole = len(extract_examples(path, reference))
    generator = random.Random(11)
    refused = candidates = mutated = files = 0
    while mutated < records:
        # Few of a file's, so that most are believed and the loops behind the first check see the others.
        chosen = set(generator.sample(range(RECORDS_A_FILE), generator.choice((1, 2, 5))))
        mutated, files = mutated + len(chosen), files + 1
        path.write_bytes(content[:place] + mutate(block, generator, chosen) + content[place + size :])
        try:
            candidates += len(extract_examples(path, reference))
        except FedcallError:
            refused += 1
    print(f"{mutated} records, {files} files, {refused} refused, {candidates} candidates, {whole} before")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
