"""Two sides' changes spell the same two sequences in some phasing, or in none."""

import random
from itertools import product

import pytest

from fedcall.genomics.concordance.phasings import Change, can_spell_the_same
from fedcall.genomics.vcf.left_alignment import Edit

SEQUENCE = "GATTACAGCAAAAAAGTCACACACATGG"


def pairs(changes: list[Change], side: int) -> set[tuple[str, ...]]:
    """Every pair of sequences that one side's changes can spell, all phasings tried."""
    own = [(edit, copies) for edit, at, copies in changes if at == side]
    found = set()
    for phases in product((0, 1), repeat=len(own)):
        spelled = []
        for haplotype in (0, 1):
            text, at, previous = "", 0, (-1, -1)
            for (edit, copies), phase in zip(own, phases, strict=True):
                if copies == 2 or phase == haplotype:
                    if edit.start < at or (edit.start, edit.end) == previous:
                        break
                    text, at = text + SEQUENCE[at : edit.start] + edit.bases, edit.end
                    previous = (edit.start, edit.end) if edit.start == edit.end else (-1, -1)
            else:
                spelled.append(text + SEQUENCE[at:])
        if len(spelled) == 2:
            found.add(tuple(sorted(spelled)))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_can_spell_the_same__as_all_phasings_say(seed: int) -> None:
    chance = random.Random(seed)
    answers = []
    for _ in range(400):
        changes: list[Change] = []
        for _ in range(chance.randint(1, 4)):
            start = chance.randint(10, 14)
            edit = Edit(start, start + chance.randint(0, 2), chance.choice(["", "A", "AA", "G", "C"]))
            copies, moved = chance.choice([1, 1, 2]), chance.choice([0, 0, 0, 1])
            changes += [(edit, 0, copies), (Edit(edit.start + moved, edit.end + moved, edit.bases), 1, copies)]
        if chance.random() < 0.5:
            changes.pop()
        changes.sort()
        answers.append(bool(pairs(changes, 0) & pairs(changes, 1)))
        assert can_spell_the_same(changes, SEQUENCE, 0) == answers[-1], changes
    assert 5 < sum(answers) < 395


def test_can_spell_the_same__many_heterozygous_changes_side_by_side() -> None:
    # Two dozen SNPs on one side, on the other each two of them as one change: there are eight million phasings.
    sequence = "AC" * 40
    truth = [(Edit(at, at + 1, "G"), 0, 1) for at in range(2, 74, 3)]
    calls = [(Edit(at, at + 4, "G" + sequence[at + 1 : at + 3] + "G"), 1, 1) for at in range(2, 74, 6)]
    assert can_spell_the_same(sorted([*truth, *calls]), sequence, 0)
    assert not can_spell_the_same(sorted([*truth, *calls[1:]]), sequence, 0)
