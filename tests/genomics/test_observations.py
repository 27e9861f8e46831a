"""What a fragment shows fits into 32 bits, and comes back capped."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedcall.genomics.observations import BITS, SHIFTS, Observed, pack, pack_repeats, unpack
from fedcall.genomics.pileup.extraction import extract_examples
from tiny_alignments import Read, write_alignments, write_reference

LARGEST = {name: (1 << bits) - 1 for name, bits in BITS.items()}


def test_bits__lie_side_by_side():
    places = [bit for name, shift in SHIFTS.items() for bit in range(shift, shift + BITS[name])]
    assert places == list(range(26))


@given(st.integers(0, 2**32 - 1))
def test_pack__comes_back_capped(seed):
    generator = np.random.default_rng(seed)
    columns = {name: generator.integers(0, 300, 20) for name in Observed._fields}
    columns |= {"shown": columns["shown"] % 4, "reverse": columns["reverse"] % 2 > 0}
    columns |= {"orientation": columns["orientation"] % 3 - 1, "three": columns["three"] % 2 > 0}
    found = unpack(pack(Observed(**columns)))
    for name, column in columns.items():
        largest = LARGEST[name] - (name == "orientation")
        np.testing.assert_array_equal(getattr(found, name), np.minimum(column, largest), err_msg=name)


def test_pack_repeats__long_ones_are_capped():
    found = pack_repeats(np.array([1, 0]), np.array([900, 0]), np.array([True, False]))
    np.testing.assert_array_equal(found, [[1, 255, 1], [0, 0, 0]])
    assert found.dtype == np.uint8


def test_extract_examples__tells_a_reads_two_ends_apart_as_it_was_sequenced(tmp_path: Path):
    """Damage sits at one of them: C>T at the 5' end, its mirror G>A at the 3' end."""
    contig = ("ACGT" * 100)[:400]  # position 200 is an A
    shown = contig[:200] + "C" + contig[201:]
    starts = (190, 195, 128, 120)  # the A is 10, 5, 27, 19 bases from the nearer end; left twice, then right twice
    reads = [Read(start, "100M", shown[start : start + 100], flag=flag) for start in starts for flag in (0, 16)]
    reference = write_reference(tmp_path, {"c": contig})
    found = extract_examples(write_alignments(tmp_path, {"c": len(contig)}, reads), reference)
    assert found.position.tolist() == [200]
    seen = unpack(found.observations)
    places = zip(seen.end.tolist(), seen.reverse.tolist(), seen.three.tolist(), strict=True)
    ends = {(end, bool(reverse)): bool(three) for end, reverse, three in places}
    assert ends == {
        (10, False): False,
        (10, True): True,
        (5, False): False,
        (5, True): True,
        (27, False): True,
        (27, True): False,
        (19, False): True,
        (19, True): False,
    }
