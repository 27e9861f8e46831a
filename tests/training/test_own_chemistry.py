"""A hospital's own chemistry: learned from its patients, used only if it helps others of them, and bound to stay."""

from pathlib import Path

import numpy as np
import pytest

from fedcall.errors import PrivacyRefusal
from fedcall.genomics.examples import BASES, COUNT_CHANNELS, FEATURES, WINDOW, Examples, make_examples, write_examples
from fedcall.genomics.observations import Observed, pack
from fedcall.model import chemistry, inference
from fedcall.model import chemistry_kernels as kernels
from fedcall.model.caller import build_model, save_model, weights_of
from fedcall.training.own_chemistry import fit_own_chemistry
from fedcall.weights import STAYS, read_weights, refuse_own_model
from in_process import run_in_process

READS = 12


def patient(seed: int, is_damaged: bool) -> Examples:
    """Return 40 candidates C>T, half of them variants; the others show T near 5' ends, of damage, or nearly nowhere."""
    generator, rows = np.random.default_rng(seed), 40
    labels = np.arange(rows) % 2
    five_prime = generator.random((rows, READS)) < 0.4
    from_variant = (labels[:, None] == 1) & (generator.random((rows, READS)) < 0.5)
    from_damage = five_prime & (generator.random((rows, READS)) < 0.7) & is_damaged & (labels[:, None] == 0)
    shown = (from_variant | from_damage).astype(int).ravel()
    every = np.ones(rows * READS, int)
    packed = pack(
        Observed(
            shown=shown,
            reverse=0 * every,
            orientation=0 * every,
            base_quality=35 * every,
            mapping_quality=60 * every,
            end=np.where(five_prime, 0, 25).ravel(),
            off=0 * every,
            three=0 * every,
        )
    )
    features = np.zeros((rows, len(FEATURES)))
    features[:, [FEATURES.index(f"ref_{BASES[1]}"), FEATURES.index(f"alt_{BASES[3]}")]] = 1.0
    whole = {
        "counts": np.zeros((rows, len(COUNT_CHANNELS), WINDOW)),
        "reference": np.ones((rows, WINDOW)),
        "features": features,
        "labels": labels,
        "contig": np.zeros(rows),
        "position": np.arange(rows),
        "allele_depths": np.ones((rows, 2)),
        "depth": np.full(rows, READS),
        "observations": packed,
        "observation_offsets": np.arange(rows + 1) * READS,
        "repeats": np.zeros((rows, 3)),
    }
    blind = make_examples([("C", "T")] * rows, {"contigs": '["c"]'}, log_likelihoods=np.zeros((rows, 3)), **whole)
    found = np.empty((rows, 3))
    kernels.likelihoods(
        chemistry.observed(blind, np.arange(rows)),
        chemistry.constants_of({name: np.zeros(one.shape) for name, one in chemistry.TENSORS.items()}),
        found,
    )
    found -= found.max(1, keepdims=True)
    return make_examples([("C", "T")] * rows, {"contigs": '["c"]'}, log_likelihoods=found, **whole)


def right(tensors: dict[str, np.ndarray], examples: Examples) -> float:
    called = inference.posteriors(tensors, examples).argmax(1)
    return float((called == examples.labels).mean())


def test_fit_own_chemistry__learns_damage_and_helps_a_patient_it_has_not_seen():
    joint = weights_of(build_model())
    made = fit_own_chemistry(joint, {f"p{number}": patient(number, is_damaged=True) for number in range(6)})
    assert made.is_used
    assert min(made.gains.values()) > 0
    other = patient(100, is_damaged=True)
    assert right(joint, other) < 0.8
    assert right(made.tensors, other) > 0.9
    for name, tensor in made.tensors.items():
        assert tensor.dtype == np.float32
        if not name.startswith(chemistry.PREFIX):
            np.testing.assert_array_equal(tensor, joint[name])
    damage = made.tensors[chemistry.PREFIX + "damage"]
    assert np.unravel_index(damage.argmax(), damage.shape) == (1, 5)  # at the 5' end, C>T


def test_fit_own_chemistry__where_it_does_not_help_others_the_joint_model_stays():
    joint = weights_of(build_model())
    people = {f"p{number}": patient(number, is_damaged=number == 0) for number in range(6)}
    made = fit_own_chemistry(joint, people)
    assert not made.is_used
    assert len(made.gains) == 6
    few = fit_own_chemistry(joint, {name: people[name] for name in ("p0", "p1")})
    assert not few.is_used
    for found in (made, few):
        assert all(np.array_equal(tensor, joint[name]) for name, tensor in found.tensors.items())


def test_fit_chemistry__the_model_is_marked_and_starts_no_study(tmp_path: Path, monkeypatch, capsys):
    save_model(tmp_path / "final.safetensors", build_model())
    examples = []
    for number in range(4):
        path = tmp_path / f"p{number}.safetensors"
        write_examples(path, patient(number, is_damaged=True))
        examples += ["--examples", str(path)]
    own = tmp_path / "own.safetensors"
    line = ["fit-chemistry", "--model", tmp_path / "final.safetensors", *examples, "--site", "north", "--output", own]
    code, told, _ = run_in_process(monkeypatch, capsys, *line)
    assert code == 0
    assert "4 of 4 better" in told
    weights = read_weights(own)
    assert weights.metadata[STAYS] == "north"
    with pytest.raises(PrivacyRefusal, match=r"own\.safetensors: fitted without noise to patients of north"):
        refuse_own_model(weights, str(own))
    refuse_own_model(read_weights(tmp_path / "final.safetensors"), "final")
