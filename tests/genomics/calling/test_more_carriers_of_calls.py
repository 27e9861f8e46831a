"""Through to the calls: the deeper a variant is shown, the surer it is called, with one copy of the genome or two."""

from pathlib import Path

import numpy as np
import pytest

from fedcall.genomics.calling.calls import Provenance, write_calls
from fedcall.genomics.pileup.extraction import extract_examples
from fedcall.genomics.vcf.rows import open_rows
from fedcall.model.caller import build_model, save_model
from fedcall.model.encoding import encode
from fedcall.model.inference import HEAD_INPUTS, checked_tensors, logits, posteriors
from fedcall.weights import read_weights
from haplotype_reads import PLACE, SEQUENCE, carriers, snps
from tiny_alignments import write_alignments, write_reference

DEPTHS = (3, 8, 40, 300, 2_500)
CAPPED = 1e-3


@pytest.mark.parametrize("ploidy", [1, 2])
@pytest.mark.parametrize("spacing", [3, 40])
@pytest.mark.parametrize("length", [100, 250])
@pytest.mark.parametrize(("quality", "mapping_quality"), [(37, 60), (12, 60), (37, 12)])
def test_calls__are_surer_with_every_further_carrier(
    tmp_path: Path, quality: int, mapping_quality: int, length: int, spacing: int, ploidy: int
) -> None:
    are_surer(tmp_path, snps(PLACE, PLACE + spacing), quality, mapping_quality, length, ploidy)


INSERTED = (PLACE, SEQUENCE[PLACE], SEQUENCE[PLACE] + "GGATC")
DELETED = (PLACE, SEQUENCE[PLACE : PLACE + 4], SEQUENCE[PLACE])


@pytest.mark.parametrize("ploidy", [1, 2])
@pytest.mark.parametrize("indel", [INSERTED, DELETED], ids=["insertion", "deletion"])
@pytest.mark.parametrize(("quality", "mapping_quality"), [(37, 60), (12, 60), (37, 12)])
def test_calls__of_indels_are_surer_with_every_further_carrier(
    tmp_path: Path, indel: tuple[int, str, str], quality: int, mapping_quality: int, ploidy: int
) -> None:
    are_surer(tmp_path, [indel, *snps(PLACE + 20)], quality, mapping_quality, 150, ploidy)


def are_surer(
    tmp_path: Path, variants: list[tuple[int, str, str]], quality: int, mapping_quality: int, length: int, ploidy: int
) -> None:
    """Call reads that all carry the variants at growing depths."""
    reference = write_reference(tmp_path, {"c": SEQUENCE})
    save_model(tmp_path / "m.safetensors", build_model())
    weights = read_weights(tmp_path / "m.safetensors")
    spacing = variants[-1][0] - PLACE
    carried, called = [], []
    for depth in DEPTHS:
        first, last = PLACE + spacing + 12 - length, PLACE - 12
        reads = carriers(variants, [first + (last - first) * k // depth for k in range(depth)], quality, length)
        for number, read in enumerate(reads):
            object.__setattr__(read, "flag", 16 * (number % 2))
            object.__setattr__(read, "mapping_quality", mapping_quality)
        examples = extract_examples(write_alignments(tmp_path, {"c": len(SEQUENCE)}, reads), reference)
        found = posteriors(checked_tensors(weights, "model"), examples)
        rows = [np.flatnonzero(examples.position == place)[0] for place, _, _ in variants]
        carried.append([float(1 - found[row, 0]) for row in rows])
        haploid = [("c", 0, len(SEQUENCE))] if ploidy == 1 else []
        output = tmp_path / "calls.vcf.gz"
        write_calls(output, examples, found, reference, "p", Provenance(weights.digest), haploid=haploid)
        with open_rows(output) as vcf:
            called.append({row.start: (row.genotype().alleles, row.quality or 0.0) for row in vcf.rows("p")})
    assert (np.diff(carried, axis=0) >= -CAPPED).all()
    for place, _, _ in variants:
        seen = [place in calls for calls in called]
        assert seen == sorted(seen), "called at one depth, and not at a greater one"
        assert [calls[place][0] for calls in called[2:]] == [(1,) * ploidy] * 3
        qualities = [calls[place][1] for calls in called if place in calls]
        assert qualities == sorted(qualities)


def test_logits__a_trained_network_moves_the_odds_no_further_than_its_head_reaches(tmp_path: Path) -> None:
    """A network can learn to doubt, so it is not monotone; evidence has no bound, and what its head adds has one."""
    reference = write_reference(tmp_path, {"c": SEQUENCE})
    save_model(tmp_path / "m.safetensors", build_model())
    plain = checked_tensors(read_weights(tmp_path / "m.safetensors"), "model")
    chance = np.random.default_rng(1)
    names = ("hidden.weight", "hidden.bias", "stem.weight", "head.weight", "head.bias")
    trained = plain | {name: chance.normal(0, 0.2, plain[name].shape).astype(np.float32) for name in names}
    weight, bias = trained["head.weight"][:, : HEAD_INPUTS // 2], trained["head.bias"]
    bound = (np.abs(weight[1:] - weight[0]).sum(1) + np.abs(bias[1:] - bias[0])) * 1.001
    moved = []
    for depth in (1, 3, 8, 40, 300):
        reads = carriers(snps(PLACE), [PLACE - 130 + 110 * k // depth for k in range(depth)])
        examples = extract_examples(write_alignments(tmp_path, {"c": len(SEQUENCE)}, reads), reference)
        row = np.flatnonzero(examples.position == PLACE)
        if len(row):
            before, after = (logits(tensors, *encode(examples, row))[0] for tensors in (plain, trained))
            moved.append(np.abs((after[1:] - after[0]) - (before[1:] - before[0])))
            # Carriers enough: whatever was learned, the reads decide.
            assert (before[1:] - before[0]).max() < bound.max() or after.argmax() > 0
    assert len(moved) > 2
    assert (np.array(moved) <= bound).all()
    assert np.max(moved) > 0.1
