"""Where in a read a base was sequenced: near which end, how far from it; damage sits at the ends of fragments."""

import numpy as np

END_STARTS = (0, 1, 2, 4, 8)
"""Distances to the nearer end of the read, bases, at which a class of places begins; behind `INTERIOR` is the rest."""
INTERIOR = 16
CLASSES = 2 * len(END_STARTS) + 1
"""Near the 5' end as it was sequenced, near the 3' end, and between."""
HIGHEST = 63
"""Reported qualities above it count as it; none below `record_fields.MIN_BASE_QUALITY` is used by anything."""
QUALITIES = HIGHEST + 1
MATES = 2
"""First (or only) and second read of a fragment."""

CLASS_OF_DISTANCE = (np.searchsorted(END_STARTS, np.arange(INTERIOR), side="right") - 1).astype(np.uint8)


def name_of_class(place: int) -> str:
    """Return where in a read a class of places lies, in words.

    Examples
    --------
    >>> name_of_class(0), name_of_class(9), name_of_class(10)
    ("base 1 from the 5' end", "bases 9-16 from the 3' end", 'more than 16 bases from both ends')
    """
    if place == CLASSES - 1:
        return f"more than {INTERIOR} bases from both ends"
    ends = (*END_STARTS[1:], INTERIOR)
    step = place % len(END_STARTS)
    first, last = END_STARTS[step] + 1, ends[step]
    which = "5'" if place < len(END_STARTS) else "3'"
    return f"base {first} from the {which} end" if first == last else f"bases {first}-{last} from the {which} end"
