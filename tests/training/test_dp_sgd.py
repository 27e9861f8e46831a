"""Private training: invariants 1 to 4 of docs/architecture.md, at both units and with both mechanisms."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from example_patients import trained_model
from fedcall.genomics.examples import COUNT_CHANNELS, FEATURES, WINDOW, Examples, empty_examples, make_examples
from fedcall.model.caller import build_model, single_threaded
from fedcall.model.unit_gradients import CallerGradSampleModule
from fedcall.privacy.mechanism.clipping import GRID, from_grid
from fedcall.privacy.mechanism.noise import StepContext, noisy_sum
from fedcall.privacy.mechanism.sampling import sample_examples, sample_patients
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.terms import ModelTerms, Site, Study, TrainingTerms
from fedcall.training.dp_sgd import DrawnUnit, UnitDPOptimizer, draw_units, private_step, train_privately
from fedcall.training.row_sampling import draw_rows, operating_weight, stratify

SECRET = bytes(range(32))
CONTEXT = StepContext("study", "north", 1, 0, "inputs")
SITES = (Site(name="north", public_key="A" * 43 + "=", node_key="ssh", patients=10),)


def patient(seed: int, rows: int = 60) -> Examples:
    generator = np.random.default_rng(seed)
    likelihoods = -generator.exponential(5.0, (rows, 3))
    return make_examples(
        [("G", "T")] * rows,
        {"contigs": '["chr1"]'},
        counts=generator.integers(0, 30, (rows, len(COUNT_CHANNELS), WINDOW)),
        reference=generator.integers(0, 4, (rows, WINDOW)),
        features=generator.uniform(-2, 2, (rows, len(FEATURES))),
        log_likelihoods=likelihoods - likelihoods.max(1, keepdims=True, initial=-np.inf),
        labels=generator.integers(-1, 3, rows),
        contig=np.zeros(rows),
        position=np.arange(rows) * 100,
        allele_depths=np.ones((rows, 2)),
        depth=np.full(rows, 20),
    )


def terms(**changes) -> PrivacyTerms:
    values = {"clip_norm": 0.5, "rows_per_unit": 16, "sampling_rate": 0.5, "steps_per_round": 3, "delta": 1e-4}
    return PrivacyTerms(**values | changes)


def study(privacy: PrivacyTerms, trainable: str = "all", averaging: float = 0.0) -> Study:
    return Study(
        name="s",
        sites=SITES,
        model=ModelTerms(trainable=trainable),
        training=TrainingTerms(learning_rate=0.5, iterate_averaging=averaging),
        privacy=privacy,
    )


def step_sum(patients: dict[str, Examples], units: list[DrawnUnit], privacy: PrivacyTerms, batch=None) -> np.ndarray:
    """Return the exact sum of one step, in grid points."""
    with single_threaded():
        model = CallerGradSampleModule(
            trained_model().train(), privacy.rows_per_unit if privacy.unit == "patient" else 1
        )
        quiet = privacy.model_copy(update={"noise_multiplier": 0.0, "sampling_rate": 1.0})
        sgd = torch.optim.SGD(model.parameters(), lr=0.0)
        optimizer = UnitDPOptimizer(sgd, quiet, 1, SECRET)
        sums = []
        optimizer.attach_step_hook(lambda o: sums.append(torch.cat([p.grad.flatten().double() for p in o.params])))
        # Gradients return as float32, which holds up to 24 bits: enough to compare sums exactly after scaling.
        keep = []
        add_noise = optimizer.add_noise

        def remember():
            keep.append(optimizer._total.copy())
            add_noise()

        optimizer.add_noise = remember
        private_step(model, optimizer, units, patients, CONTEXT, batch_units=batch)
    np.testing.assert_allclose(sums[0].numpy(), from_grid(keep[0], privacy.clip_norm), rtol=1e-6)
    return keep[0]


def all_units(patients: dict[str, Examples], privacy: PrivacyTerms) -> list[DrawnUnit]:
    everyone = privacy.model_copy(update={"sampling_rate": 1.0})
    return draw_units(SECRET, CONTEXT, {name: stratify(one) for name, one in sorted(patients.items())}, everyone)


@pytest.mark.parametrize("mechanism", ["gaussian", "laplace"])
@pytest.mark.parametrize("spoiled", [None, np.nan, np.inf, 1e30, -1e4])
def test_private_step__removing_a_patient_moves_the_sum_by_at_most_the_clip_norm(mechanism, spoiled):
    privacy = terms(mechanism=mechanism)
    patients = {f"p{index}": patient(index) for index in range(5)}
    if spoiled is not None:
        patients["p2"].features[::3] = spoiled
        patients["p2"].log_likelihoods[::4] = spoiled
    whole = step_sum(patients, all_units(patients, privacy), privacy)
    for name in patients:
        rest = {other: one for other, one in patients.items() if other != name}
        moved = [int(x) for x in whole - step_sum(rest, all_units(rest, privacy), privacy)]
        size = sum(map(abs, moved)) if mechanism == "laplace" else sum(x * x for x in moved)
        assert size <= (GRID if mechanism == "laplace" else GRID**2)
        if name != "p2" or spoiled is None:
            assert size > 0


def test_private_step__a_patient_with_non_finite_rows_counts_as_zero():
    privacy = terms()
    patients = {f"p{index}": patient(index) for index in range(3)}
    patients["p1"].features[:] = np.nan
    rest = {name: patients[name] for name in ("p0", "p2")}
    whole = step_sum(patients, all_units(patients, privacy), privacy)
    assert (whole == step_sum(rest, all_units(rest, privacy), privacy)).all()


@settings(max_examples=8, deadline=None)
@given(st.permutations(range(9)), st.integers(8, 40))
def test_private_step__sum_depends_neither_on_order_nor_on_physical_batches(order, batch):
    privacy = terms()
    patients = {f"p{index}": patient(index) for index in range(9)}
    units = all_units(patients, privacy)
    reference = step_sum(patients, units, privacy)
    assert (reference == step_sum(patients, [units[index] for index in order], privacy, batch)).all()


def test_private_step__example_unit_does_not_depend_on_its_neighbours():
    privacy = terms(unit="example", examples_per_patient=50)
    patients = {f"p{index}": patient(index) for index in range(4)}
    units = all_units(patients, privacy)
    assert len(units) == sum((one.labels >= 0).sum() for one in patients.values())
    whole = step_sum(patients, units, privacy)
    for left_out in (0, 7, len(units) - 1):
        moved = whole - step_sum(patients, units[:left_out] + units[left_out + 1 :], privacy)
        alone = step_sum(patients, [units[left_out]], privacy)
        assert (moved == alone).all()
        assert 0 < sum(int(x) ** 2 for x in moved) <= GRID**2


@pytest.mark.parametrize("unit", ["patient", "example"])
def test_draw_units__are_those_that_were_sampled_for_the_step(unit):
    """Invariant 3: whoever is taken beyond the sample is not accounted for."""
    privacy = terms(unit=unit, examples_per_patient=60 if unit == "example" else None, sampling_rate=0.3)
    strata = {f"p{index}": stratify(patient(index, 12)) for index in range(8)}
    taken = 0
    for step in range(40):
        context = StepContext("study", "north", 1, step, "inputs")
        units = draw_units(SECRET, context, strata, privacy)
        if unit == "patient":
            sample = sample_patients(SECRET, context, list(strata), 0.3)
            expected = [name for name, drawn in zip(strata, sample, strict=True) if drawn]
            assert [one.patient for one in units] == expected
        else:
            for name, rows in strata.items():
                expected = rows.labelled[sample_examples(SECRET, context, name, len(rows.labelled), 0.3)]
                assert [row for one in units if one.patient == name for row in one.rows] == list(expected)
        taken += len(units)
    everyone = 40 * (8 if unit == "patient" else sum(len(rows.labelled) for rows in strata.values()))
    assert taken / everyone == pytest.approx(0.3, abs=0.1)


def test_draw_units__an_example_does_not_weigh_by_its_neighbours():
    """Invariant 1: the patient's own operating point would let one example change the weight of all the others."""
    privacy = terms(unit="example", examples_per_patient=60, sampling_rate=1.0)
    called, missed = patient(3), patient(3)
    called.labels[:] = called.log_likelihoods.argmax(1)
    missed.labels[:] = (called.labels + 1) % 3
    called.labels[0] = missed.labels[0] = 1
    strata = [stratify(one) for one in (called, missed)]
    assert strata[0].variant_weight != strata[1].variant_weight
    first, second = (draw_units(SECRET, CONTEXT, {"a": one}, privacy)[0] for one in strata)
    assert (first.rows, first.weights) == (second.rows, second.weights)


def test_private_step__divides_by_public_numbers_and_an_empty_draw_is_a_step():
    privacy = terms(sampling_rate=0.25, noise_multiplier=1.0)
    model = CallerGradSampleModule(build_model().train(), privacy.rows_per_unit)
    gradients = []
    for units in (10, 40):
        optimizer = UnitDPOptimizer(torch.optim.SGD(model.parameters(), lr=0.0), privacy, units, SECRET)
        optimizer.attach_step_hook(lambda o: gradients.append(torch.cat([p.grad.flatten() for p in o.params])))
        private_step(model, optimizer, [], {}, CONTEXT)
    torch.testing.assert_close(gradients[0], 4 * gradients[1])
    # Nothing but noise: standard deviation σ · clip / (q N)
    assert gradients[0].std().item() == pytest.approx(1.0 * 0.5 / (0.25 * 10), rel=0.05)


def test_private_step__a_step_forgets_the_units_of_the_step_before():
    privacy = terms(noise_multiplier=0.0, max_epsilon=None)
    patients = {"a": patient(1)}
    model = CallerGradSampleModule(trained_model().train(), privacy.rows_per_unit)
    optimizer = UnitDPOptimizer(torch.optim.SGD(model.parameters(), lr=0.0), privacy, 1, SECRET)
    largest = []
    optimizer.attach_step_hook(lambda o: largest.append(max(p.grad.abs().max().item() for p in o.params)))
    private_step(model, optimizer, all_units(patients, privacy), patients, CONTEXT)
    private_step(model, optimizer, [], patients, StepContext("study", "north", 1, 1, "inputs"))
    assert largest[0] > 0
    assert largest[1] == 0


def test_private_step__refuses_a_step_without_context():
    privacy = terms()
    model = CallerGradSampleModule(build_model().train(), 1)
    optimizer = UnitDPOptimizer(torch.optim.SGD(model.parameters(), lr=0.0), privacy, 10, SECRET)
    for parameter in model.parameters():
        parameter.grad_sample = torch.zeros(0, *parameter.shape)
    with pytest.raises(RuntimeError, match="context"):
        optimizer.step()
    optimizer.context = CONTEXT
    optimizer.step()
    with pytest.raises(RuntimeError, match="context"):  # the last step's is used up
        optimizer.step()


@pytest.mark.parametrize("changes", [{}, {"mechanism": "laplace"}, {"unit": "example", "examples_per_patient": 60}])
def test_train_privately__repeats_itself_and_uses_every_input(changes):
    agreed = study(terms(**changes))
    patients = {f"p{index}": patient(index) for index in range(6)}

    def update(data=patients, site_secret=SECRET, round_number=1):
        tensors = train_privately(trained_model(), agreed, "north", round_number, data, site_secret).tensors
        return np.concatenate([tensors[name].ravel() for name in sorted(tensors)])

    first = update()
    assert (first == update(dict(reversed(patients.items())))).all()
    assert (first == update(round_number=2)).mean() < 0.001
    assert (first == update(site_secret=bytes(32))).mean() < 0.001
    changed = {**patients, "p0": patient(99)}
    assert (first != update(changed)).mean() > 0.9  # fresh noise everywhere, whoever is drawn


@pytest.mark.parametrize("mechanism", ["gaussian", "laplace"])
def test_promise_9__noise_and_sampling_are_bound_to_the_inputs(mechanism):
    """Promise, point 9: a release with another input tells nothing about the first, not even that a sum is equal."""
    agreed = study(terms(mechanism=mechanism, sampling_rate=1.0, steps_per_round=1))
    patients = {"a": patient(1), "b": empty_examples()}
    unlabelled = replace(patient(2), labels=np.full(60, -1, np.int8))  # contributes zero, as "b" does

    def update(data, **given):
        tensors = train_privately(trained_model(), agreed, "north", 1, data, SECRET, **given).tensors
        return np.concatenate([tensors[name].ravel() for name in sorted(tensors)])

    first = update(patients)
    np.testing.assert_array_equal(first, update(dict(reversed(patients.items()))))
    sums_equal = {
        "other contents": update({**patients, "b": unlabelled}),
        "one patient less": update({"a": patients["a"]}),
        "another name": update({"a": patients["a"], "c": patients["b"]}),
        "another digest": update(patients, inputs="digest"),
        "another digest, one patient less": update({"a": patients["a"]}, inputs="digest"),
    }
    found = [first, *sums_equal.values()]
    for one in range(len(found)):
        for other in range(one):
            # The part that the patient pulls is common, the noise of 4.8 to 1 and more is not.
            assert (found[one] == found[other]).mean() < 0.001
            assert abs(np.corrcoef(found[one], found[other])[0, 1]) < 0.05


def test_draw_units__other_inputs_draw_other_units():
    """Promise, point 9, of sampling and of the rows of a unit."""
    strata, privacy = {f"p{n}": stratify(patient(n)) for n in range(40)}, terms(sampling_rate=0.5)
    first = draw_units(SECRET, CONTEXT, strata, privacy)
    other = draw_units(SECRET, replace(CONTEXT, inputs="others"), strata, privacy)
    assert {unit.patient for unit in first} != {unit.patient for unit in other}
    both = {unit.patient: unit.rows for unit in first}
    assert any(unit.patient in both and not np.array_equal(unit.rows, both[unit.patient]) for unit in other)


@pytest.mark.parametrize(
    ("trainable", "layers"),
    [
        ("head", {"head"}),
        ("norm_and_head", {"head", "norm0", "norm1", "norm2"}),
        ("chemistry", {"chemistry"}),
        ("chemistry_and_head", {"chemistry", "head"}),
    ],
)
def test_train_privately__changes_only_what_the_terms_train(trainable, layers):
    model = build_model()
    frozen = model.stem.weight.clone()
    tensors = train_privately(model, study(terms(), trainable), "north", 1, {"a": patient(1)}, SECRET).tensors
    assert {name.split(".")[0] for name in tensors} == layers
    assert all(tensor.dtype == np.float32 for tensor in tensors.values())
    assert torch.equal(model.stem.weight, frozen)
    assert model.stem.weight.grad is None


def test_train_privately__update_is_the_agreed_linear_map_of_noise():
    # Without labelled rows an update is noise alone: one step of it has standard deviation lr · σ · C / (q N).
    agreed = study(terms(noise_multiplier=2.0, steps_per_round=1))
    tensors = train_privately(build_model(), agreed, "north", 1, {"a": empty_examples()}, SECRET).tensors
    values = np.concatenate([tensor.ravel() for tensor in tensors.values()])
    assert values.std() == pytest.approx(0.5 * 2.0 * 0.5 / (0.5 * 10), rel=0.03)
    averaged = train_privately(
        build_model(), agreed.model_copy(update={"training": TrainingTerms(learning_rate=0.5, iterate_averaging=0.9)}),
        "north", 1, {"a": empty_examples()}, SECRET,
    )  # fmt: skip
    values = np.concatenate([tensor.ravel() for tensor in averaged.tensors.values()])
    assert values.std() == pytest.approx(0.1 * 0.5 * 2.0 * 0.5 / (0.5 * 10), rel=0.03)


@pytest.mark.parametrize("rows", [1, 20, 400])
def test_train_privately__the_unit_is_the_patient_however_many_rows(rows):
    # One step, everybody drawn, no noise: a patient's rows move the model by one clip norm over public numbers.
    privacy = terms(
        clip_norm=1e-3, noise_multiplier=0.0, max_epsilon=None, sampling_rate=1.0, steps_per_round=1, rows_per_unit=400
    )
    one = patient(3, rows)
    one.labels[:] = 2
    tensors = train_privately(build_model(), study(privacy), "north", 1, {"a": one}, SECRET).tensors
    moved = np.sqrt(sum(float((tensor.astype(np.float64) ** 2).sum()) for tensor in tensors.values()))
    assert moved == pytest.approx(0.5 * 1e-3 / 10, rel=1e-3)  # lr · C / (q N)


def test_train_privately__learns_without_noise():
    privacy = terms(noise_multiplier=0.0, max_epsilon=None, sampling_rate=1.0, steps_per_round=40, rows_per_unit=64)
    patients = {}
    for index in range(4):
        one = patient(index, 150)
        one.log_likelihoods[:] /= 5
        one.labels[:] = (one.features[:, 0] > 0).astype(np.int8)  # something the likelihood does not know
        patients[f"p{index}"] = one
    agreed = study(privacy.model_copy(update={"clip_norm": 10.0}))
    tensors = train_privately(model := build_model(), agreed, "north", 1, patients, SECRET).tensors
    assert set(tensors) == {name for name, p in model.named_parameters() if p.requires_grad}
    from fedcall.model.caller import posteriors

    test = patient(77, 300)
    right = (posteriors(model, test)[:, 1:].sum(1) > 0.5) == (test.features[:, 0] > 0)
    fresh = (posteriors(build_model(), test)[:, 1:].sum(1) > 0.5) == (test.features[:, 0] > 0)
    assert right.mean() > fresh.mean() + 0.1


def test_draw_bag__expected_weights_stand_for_all_rows():
    rows = stratify(patient(3, 400))
    assert len(rows.hard) + len(rows.easy) == (rows.examples.labels >= 0).sum()
    sums = np.zeros(400)
    for step in range(400):
        drawn, weights = draw_rows(SECRET, StepContext("s", "n", 1, step, "inputs"), "p", rows, 32)
        assert len(drawn) == len(set(drawn.tolist())) == 32
        np.add.at(sums, drawn, weights / 400)
    variant = rows.hard[rows.examples.labels[rows.hard] > 0]
    reference = rows.hard[rows.examples.labels[rows.hard] == 0]
    assert sums[reference].mean() * len(rows.hard) == pytest.approx(1.0, rel=0.15)
    assert sums[variant].mean() * len(rows.hard) == pytest.approx(rows.variant_weight, rel=0.15)


@pytest.mark.parametrize(("called", "weight"), [([1, 2, 0, 0], 1.0), ([1, 0, 0, 0], 2.0), ([0, 0, 0, 0], 6.0)])
def test_operating_weight__is_two_over_f1_less_one(called, weight):
    assert operating_weight(np.array([1, 2, 0, 0]), np.array(called)) == pytest.approx(weight)


def test_operating_weight__counts_variants_that_no_read_shows():
    labels = called = np.array([1, 2, 0, 0])
    assert operating_weight(labels, called, true_alleles=6) == pytest.approx(2 / (2 * 2 / (6 + 2)) - 1)


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_draw_bag__few_rows_are_taken_whole(rows):
    one = patient(1, rows)
    one.labels[:] = 1
    drawn, weights = draw_rows(SECRET, CONTEXT, "p", stratify(one), 16)
    assert sorted(drawn) == list(range(rows))
    assert len(weights) == rows


VALUES = st.sampled_from([0.0, 1.0, -3.0, 1e4, -1e12, 3e38, np.inf, -np.inf, np.nan])


@settings(max_examples=20, deadline=None)
@given(
    rows=st.one_of(st.integers(1, 40), st.sampled_from([300, 5000])),
    mechanism=st.sampled_from(["gaussian", "laplace"]),
    features=st.lists(VALUES, min_size=1, max_size=len(FEATURES)),
    likelihoods=st.lists(VALUES, min_size=1, max_size=5),
    label=st.sampled_from([None, 0, 1, 2]),
    counts=st.sampled_from([0, 1, 60000]),
)
def test_private_step__any_patient_moves_the_sum_by_at_most_the_clip_norm(
    rows, mechanism, features, likelihoods, label, counts
):
    """Invariant 1 for patients nobody has seen: garbage in every input, 1 to 5,000 rows, all of them in the unit."""
    garbage = patient(1, rows)
    garbage.features[:, : len(features)] = features
    garbage.log_likelihoods[: len(likelihoods)] = np.array(likelihoods, np.float32)[:rows, None]
    garbage.counts[:] = counts
    if label is not None:
        garbage.labels[:] = label
    privacy = terms(mechanism=mechanism, rows_per_unit=min(rows, 400))
    patients = {"a": patient(2), "garbage": garbage, "z": patient(3)}
    rest = {name: patients[name] for name in ("a", "z")}
    with np.errstate(all="ignore"):
        whole = step_sum(patients, all_units(patients, privacy), privacy)
    moved = [int(x) for x in whole - step_sum(rest, all_units(rest, privacy), privacy)]
    assert (sum(map(abs, moved)) if mechanism == "laplace" else sum(x * x for x in moved) ** 0.5) <= GRID


def test_train_privately__no_key_is_ever_used_twice_in_a_study(monkeypatch):
    """Two sites with one secret (a copied folder), all rounds and steps, both units: every stream has its own key."""
    from fedcall.privacy.mechanism import noise

    keys = []
    original = noise.derive_key

    def remember(secret, *context):
        key = original(secret, *context)
        if secret == SECRET and context[0] != b"digest":  # one key of digests for all; probes have secrets of their own
            keys.append(key)
        return key

    monkeypatch.setattr(noise, "derive_key", remember)
    patients = {f"p{index}": patient(index, 12) for index in range(3)}
    south = SITES[0].model_copy(update={"name": "south"})
    for changes in ({}, {"clip_norm": 0.6}, {"unit": "example", "examples_per_patient": 60}):
        agreed = study(terms(**changes))
        agreed = agreed.model_copy(update={"sites": (*agreed.sites, south)})
        for site in ("north", "south"):
            for number in (1, 2, 11):
                train_privately(build_model(), agreed, site, number, patients, SECRET)
    assert len(keys) > 3 * 2 * 3 * 3  # at least the noise of every step
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("changes", [{}, {"mechanism": "laplace"}, {"clipping": "adaptive"}])
def test_train_privately__release_is_the_same_for_every_physical_batch(changes, monkeypatch):
    """Accumulation passes: whole rounds in batches of 1, 3 and all units are one release."""
    agreed = study(terms(sampling_rate=1.0, noise_multiplier=0.3, **changes)).model_copy(
        update={"sites": (SITES[0].model_copy(update={"patients": 60}),)}
    )
    patients = {f"p{index}": patient(index) for index in range(5)}
    releases = []
    for batch_rows in (1, 3 * agreed.privacy.rows_per_unit, 8 * agreed.privacy.rows_per_unit):
        monkeypatch.setattr("fedcall.training.dp_sgd.BATCH_ROWS", batch_rows)
        made = train_privately(build_model(), agreed, "north", 1, patients, SECRET)
        releases.append((b"".join(made.tensors[name].tobytes() for name in sorted(made.tensors)), made.clipping))
    assert releases[0] == releases[1] == releases[2]


def test_private_step__support_of_the_output_does_not_depend_on_the_data(monkeypatch):
    """A noisy sum is any whole number of grid points, and its last bits are uniform (Mironov 2012)."""
    released = []
    original = noisy_sum

    def remember(*arguments):
        released.append(original(*arguments))
        return released[-1]

    monkeypatch.setattr("fedcall.training.dp_sgd.noisy_sum", remember)
    privacy = terms(sampling_rate=1.0, noise_multiplier=1.0, clip_norm=0.3)
    for data in ({"a": patient(1)}, {"a": patient(2, 300), "b": patient(3)}, {"a": empty_examples()}):
        model = CallerGradSampleModule(build_model().train(), privacy.rows_per_unit)
        optimizer = UnitDPOptimizer(torch.optim.SGD(model.parameters(), lr=0.0), privacy, 10, SECRET)
        private_step(model, optimizer, all_units(data, privacy), data, CONTEXT)
    assert len(released) == 3
    for noisy in released:
        assert noisy.dtype == np.int64
        assert chisquare(np.bincount(noisy & 63, minlength=64)).pvalue > 1e-6
