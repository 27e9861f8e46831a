"""What a fragment shows fits into 32 bits, and comes back capped."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedcall.genomics.observations import BITS, SHIFTS, Observed, pack, pack_repeats, unpack

LARGEST = {name: (1 << bits) - 1 for name, bits in BITS.items()}


def test_bits__lie_side_by_side():
    places = [bit for name, shift in SHIFTS.items() for bit in range(shift, shift + BITS[name])]
    assert places == list(range(25))


@given(st.integers(0, 2**32 - 1))
def test_pack__comes_back_capped(seed):
    generator = np.random.default_rng(seed)
    columns = {name: generator.integers(0, 300, 20) for name in Observed._fields}
    columns |= {"shown": columns["shown"] % 4, "reverse": columns["reverse"] % 2 > 0}
    columns["orientation"] = columns["orientation"] % 3 - 1
    found = unpack(pack(Observed(**columns)))
    for name, column in columns.items():
        largest = LARGEST[name] - (name == "orientation")
        np.testing.assert_array_equal(getattr(found, name), np.minimum(column, largest), err_msg=name)


def test_pack_repeats__long_ones_are_capped():
    found = pack_repeats(np.array([1, 0]), np.array([900, 0]), np.array([True, False]))
    np.testing.assert_array_equal(found, [[1, 255, 1], [0, 0, 0]])
    assert found.dtype == np.uint8
