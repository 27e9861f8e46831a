"""Adaptive clipping (Andrew et al. 2021): paid for within the noise multiplier, reproducible, checked at admission."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from example_patients import write_patient
from fedcall.documents import read_signed, sign
from fedcall.errors import PrivacyRefusal
from fedcall.experiments.faults import unwatched
from fedcall.federation.aggregator.admission import EarlierUploads, OpenRound, admit_upload
from fedcall.keys import create_keys, read_signing_key
from fedcall.model.caller import build_model, save_model, weights_of
from fedcall.privacy.accounting.epsilon import compose
from fedcall.privacy.events import Event, round_event
from fedcall.privacy.mechanism.adaptive_clipping import (
    ClipTrace,
    clip_norms,
    count_multiplier,
    step_clip_norms,
    sum_multiplier,
)
from fedcall.privacy.mechanism.clipping import GRID, from_grid
from fedcall.privacy.mechanism.update_noise import update_noise_std
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.claims import Claim
from fedcall.study.terms import ModelTerms, Site, Study, TrainingTerms
from fedcall.training import dp_sgd
from fedcall.training.rounds import RoundFiles, train_round
from fedcall.weights import read_weights, weights_bytes, weights_digest

TERMS = PrivacyTerms(
    clipping="adaptive", noise_multiplier=2.0, sampling_rate=0.5, steps_per_round=3, rows_per_unit=8, delta=5e-4
)
UNITS = 200  # 100 expected in a step, counted with standard deviation 5


@pytest.mark.parametrize("mechanism", ["gaussian", "laplace"])
def test_sum_multiplier__sum_and_count_together_cost_what_the_terms_say(mechanism):
    """A unit that surely takes part moves sum and count, each by its sensitivity."""
    terms = TERMS.model_copy(update={"mechanism": mechanism})
    both = [sum_multiplier(terms, UNITS), count_multiplier(terms, UNITS)]
    events = [
        Event(unit="patient", mechanism=mechanism, noise_multiplier=scale, sampling_rate=1.0, steps=1) for scale in both
    ]
    whole = events[0].model_copy(update={"noise_multiplier": terms.noise_multiplier})
    joint, accounted = compose([(event, 1) for event in events], 1e-3).pld, compose([(whole, 1)], 1e-3).pld
    assert joint <= accounted * 1.001 + 1e-3
    if mechanism == "gaussian":  # Gaussians compose exactly
        assert joint == pytest.approx(accounted, rel=2e-3)
    assert both[0] > terms.noise_multiplier


def test_sum_multiplier__is_andrews_two_percent_at_fifty_units():
    """facts.md: 50 units in a step cost 2 % more noise, 10 are infeasible."""
    terms = TERMS.model_copy(update={"noise_multiplier": 1.0})
    assert sum_multiplier(terms, 100) == pytest.approx((1 - 1 / 25) ** -0.5)
    with pytest.raises(ValueError, match="infeasible: 10 patients are expected in a step"):
        sum_multiplier(terms, 20)


def test_study__refuses_a_site_too_small_for_the_quantile():
    site = Site(name="tiny", public_key="A" * 43 + "=", node_key="ssh", patients=8)
    with pytest.raises(ValidationError, match="site 'tiny': clipping 'adaptive' is infeasible: 4 patients"):
        Study(name="s", sites=(site,), privacy=TERMS)
    with pytest.raises(ValidationError, match="adaptation belongs to clipping 'adaptive'"):
        PrivacyTerms(adaptation={"target_quantile": 0.3})


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=20), st.floats(1e-3, 1e3))
def test_clip_norms__stay_positive_and_within_a_thousandfold(shares, start):
    norms = clip_norms(TERMS, ClipTrace(start=start, shares=tuple(shares)))
    assert len(norms) == len(shares) + 1
    assert all(1e-3 * 0.999 <= norm <= 1e3 * 1.001 for norm in norms)


def test_clip_norms__follow_the_published_update():
    norms = clip_norms(TERMS, ClipTrace(start=2.0, shares=(0.9, 0.1)))
    assert norms == pytest.approx((2.0, 2 * math.exp(0.2 * (0.5 - 0.9)), 2.0))


class Hospital:
    """A site with a few real patients of the many it declared."""

    def __init__(self, folder, **changes):
        self.folder = folder
        self.identity = create_keys(folder / "keys", "north")
        model = build_model()
        save_model(folder / "initial.safetensors", model)
        self.study = Study(
            name="tiny",
            coordinator=self.identity.public_key,
            sites=(Site(name="north", public_key=self.identity.public_key, node_key="ssh", patients=UNITS),),
            model=ModelTerms(initial_weights=weights_digest(weights_of(model))),
            rounds=3,
            training=TrainingTerms(learning_rate=0.1),
            privacy=TERMS.model_copy(update=changes),
        )
        self.patients = [write_patient(folder / f"p{seed}.safetensors", seed) for seed in range(6)]

    def train(self, number):
        out = self.folder / str(number)
        paths = out / "update.safetensors", out / "claim.json"
        keys, initial, ledger = (self.folder / name for name in ("keys", "initial.safetensors", "ledger.sqlite"))
        train_round(self.study, "north", number, RoundFiles(keys, initial, self.patients, ledger, *paths))
        return paths[0].read_bytes(), paths[1].read_bytes()

    def claim(self, number):
        return read_signed(self.folder / str(number) / "claim.json", Claim, self.identity.public_key)

    def admit_upload(self, number, update, signed, history):
        base = read_weights(self.folder / "initial.safetensors")
        names = self.study.model.trainable_names(base.tensors)
        shapes = {name: base.tensors[name].shape for name in names}
        return admit_upload(
            self.study, "north", history, OpenRound(number, base.digest, shapes), number, signed, update
        )

    def sign(self, claim):
        return sign(claim, read_signing_key(self.folder / "keys"))


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    made = Hospital(tmp_path_factory.mktemp("adaptive"))
    made.train(1)
    made.train(2)
    return made


def test_train_round__carries_the_clip_norm_over_rounds_and_repeats_itself(hospital):
    first, second = hospital.claim(1), hospital.claim(2)
    assert first.clipping.start == TERMS.clip_norm
    assert len(first.clipping.shares) == TERMS.steps_per_round
    assert second.clipping.start == clip_norms(TERMS, first.clipping)[-1]
    assert second.epsilon == compose([(round_event(TERMS), 2)], TERMS.delta).pld
    assert round_event(TERMS).clipping == "adaptive"
    before = [(hospital.folder / "2" / name).read_bytes() for name in ("update.safetensors", "claim.json")]
    assert list(hospital.train(2)) == before


def test_train_round__another_clip_norm_to_start_from_is_another_release(tmp_path, monkeypatch):
    """A round that was charged before the round that its clip norm comes from: the same key would clip another sum."""

    def crash(*_, **__):
        raise KeyboardInterrupt

    hospital = Hospital(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(dp_sgd, "train_privately", crash)
        with pytest.raises(KeyboardInterrupt):
            hospital.train(2)
    hospital.train(1)
    with pytest.raises(PrivacyRefusal, match=r"charged for other inputs \(different: inputs\)"):
        hospital.train(2)


def test_admit_upload__an_honest_adaptive_update_is_accepted_round_after_round(hospital):
    history = EarlierUploads()
    for number in (1, 2):
        files = [(hospital.folder / str(number) / name).read_bytes() for name in ("update.safetensors", "claim.json")]
        decision = hospital.admit_upload(number, *files, history)
        assert decision.reason == "ok", decision.sentence
        assert decision.clip_norm == clip_norms(TERMS, hospital.claim(number).clipping)[-1]
        assert decision.ledger_head == hospital.claim(number).ledger_head
        history = replace(history, clip_norm=decision.clip_norm)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda trace: trace.model_copy(update={"start": trace.start * 1.001}), "last release ended at"),
        (lambda trace: trace.model_copy(update={"shares": trace.shares[:-1]}), "2 shares of adaptive clipping, 3"),
        (lambda trace: trace.model_copy(update={"shares": (9.0, *trace.shares[1:])}), "cannot be measured"),
        (lambda trace: trace.model_copy(update={"shares": (-8.0, *trace.shares[1:])}), "cannot be measured"),
        (lambda trace: None, "no shares"),
    ],
)
def test_admit_upload__a_trajectory_that_cannot_be_is_refused(hospital, change, words):
    claim = hospital.claim(1).model_copy(update={"clipping": change(hospital.claim(1).clipping)})
    update = (hospital.folder / "1" / "update.safetensors").read_bytes()
    decision = hospital.admit_upload(1, update, hospital.sign(claim), EarlierUploads())
    assert decision.reason == "mechanism"
    assert words in decision.sentence
    assert decision.clip_norm is None
    assert decision.released == claim.privacy, "the release was made, so it counts"


def test_admit_upload__half_the_noise_or_another_clip_norm_than_claimed_is_refused(hospital):
    tensors = read_weights(hospital.folder / "1" / "update.safetensors").tensors
    for factor in (0.5, 2.0):
        scaled = {name: (factor * tensor).astype(np.float32) for name, tensor in tensors.items()}
        claim = hospital.claim(1).model_copy(update={"update": weights_digest(scaled)})
        decision = hospital.admit_upload(1, weights_bytes(scaled, {}), hospital.sign(claim), EarlierUploads())
        assert decision.reason == ("noise-floor" if factor < 1 else "norm-ceiling")


def test_admit_upload__noise_is_measured_by_the_clip_norms_on_the_way(hospital):
    """Where the clip norm has come down to a quarter, so has the noise; noise of the first clip norm is too much."""
    base, training = read_weights(hospital.folder / "initial.safetensors"), hospital.study.training
    trace = ClipTrace(start=TERMS.clip_norm / 4, shares=hospital.claim(1).clipping.shares)
    norms = step_clip_norms(TERMS, trace)
    std = update_noise_std(TERMS, training.learning_rate, training.iterate_averaging, UNITS, norms)
    draw = np.random.default_rng(4)
    names = hospital.study.model.trainable_names(base.tensors)
    noise = {name: draw.normal(0, std, base.tensors[name].shape).astype(np.float32) for name in names}
    for factor, reason in ((1, "ok"), (4, "norm-ceiling")):
        tensors = {name: np.float32(factor) * tensor for name, tensor in noise.items()}
        claim = hospital.claim(1).model_copy(update={"clipping": trace, "update": weights_digest(tensors)})
        history = EarlierUploads(clip_norm=trace.start)
        decision = hospital.admit_upload(1, weights_bytes(tensors, {}), hospital.sign(claim), history)
        assert decision.reason == reason, decision.sentence


def test_train_privately__the_count_is_centred_and_moves_by_a_half_at_most(hospital, monkeypatch):
    """Sensitivity ½: whatever a patient's rows, it adds or takes one half; it is noised with the sum, under one key."""
    totals = []

    def remember(secret, context, total, mechanism, scale, unit):
        totals.append((total.copy(), scale))
        return total.copy()

    monkeypatch.setattr(dp_sgd, "noisy_sum", remember)
    with unwatched():
        _count_is_centred(hospital, totals)


def _count_is_centred(hospital, totals):
    everyone = hospital.study.model_copy(update={"privacy": TERMS.model_copy(update={"sampling_rate": 1.0})})
    one_step = everyone.privacy.model_copy(update={"steps_per_round": 1})
    study = everyone.model_copy(update={"privacy": one_step})
    from fedcall.genomics.examples import open_examples

    patients = {path.stem: open_examples(path) for path in hospital.patients}
    for left_out in (None, *patients):
        some = {name: one for name, one in patients.items() if name != left_out}
        for clip_norm in (1e-6, 1e6):
            dp_sgd.train_privately(build_model(), study, "north", 1, some, bytes(32), clip_norm=clip_norm)
    counts = [int(total[-1]) for total, _ in totals]
    assert counts[:2] == [-6 * GRID, 6 * GRID]  # all longer, all shorter
    assert counts[2:] == [-5 * GRID, 5 * GRID] * 6
    assert all(scale[-1] == count_multiplier(one_step, UNITS) for _, scale in totals)
    assert all((scale[:-1] == sum_multiplier(one_step, UNITS)).all() for _, scale in totals)
    assert sum_multiplier(one_step, UNITS) > one_step.noise_multiplier  # the sum pays for the count
    totals.clear()
    name = next(iter(patients))
    spoiled = replace(patients[name], features=np.full_like(patients[name].features, np.nan))
    dp_sgd.train_privately(build_model(), study, "north", 1, patients | {name: spoiled}, bytes(32), clip_norm=1e6)
    assert int(totals[0][0][-1]) == 4 * GRID  # a gradient that is not a number takes its half
    totals.clear()
    made = dp_sgd.train_privately(build_model(), study, "north", 1, patients, bytes(32), clip_norm=0.1)
    assert made.clipping.shares[0] < 0.5  # so that the next clip norm is another, which is not the sum's unit
    summed = from_grid(totals[0][0][:-1], 0.1) * study.training.learning_rate / UNITS
    moved = np.concatenate([tensor.ravel() for tensor in made.tensors.values()])
    assert np.linalg.norm(moved) == pytest.approx(np.linalg.norm(summed), rel=1e-3)
    totals.clear()
    study = everyone.model_copy(update={"privacy": one_step.model_copy(update={"steps_per_round": 2})})
    dp_sgd.train_privately(build_model(), study, "north", 1, patients, bytes(32), clip_norm=1e6)
    assert [int(total[-1]) for total, _ in totals] == [6 * GRID, 6 * GRID]  # each step counts its own units
