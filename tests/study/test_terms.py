"""The study: what is allowed, and how a mistake is named."""

from typing import get_args

import pytest
from pydantic import ValidationError

from fedcall.documents import write_signed
from fedcall.errors import FedcallError
from fedcall.keys import create_keys, read_signing_key
from fedcall.study.evaluation import EvaluationTerms
from fedcall.study.terms import ModelTerms, Study, Trainable, read_study, read_study_terms


def make_study(identity, **changes):
    site = {**identity.model_dump(), "patients": 40}
    content = {
        "name": "demo",
        "coordinator": identity.public_key,
        "sites": [site],
        "model": {"initial_weights": "0" * 64},
        **changes,
    }
    return Study.model_validate(content)


def test_read_study__signed_by_its_coordinator(tmp_path):
    study = make_study(create_keys(tmp_path / "keys", "north"))
    write_signed(tmp_path / "study.json", study, read_signing_key(tmp_path / "keys"))
    assert read_study(tmp_path / "study.json") == study
    assert read_study_terms(tmp_path / "study.json") == study


def test_read_study__signed_by_someone_else_is_refused(tmp_path):
    study = make_study(create_keys(tmp_path / "keys", "north"))
    create_keys(tmp_path / "other", "south")
    write_signed(tmp_path / "study.json", study, read_signing_key(tmp_path / "other"))
    with pytest.raises(FedcallError, match=r"study\.json: study: signed by another key"):
        read_study(tmp_path / "study.json")


def test_read_study__incomplete_is_refused(tmp_path):
    identity = create_keys(tmp_path / "keys", "north")
    write_signed(
        tmp_path / "study.json",
        Study(name="demo", coordinator=identity.public_key),
        read_signing_key(tmp_path / "keys"),
    )
    with pytest.raises(FedcallError, match="lacks sites, coordinator or initial weights"):
        read_study(tmp_path / "study.json")


def test_promise_5__delta_times_the_patients_is_at_most_a_tenth(tmp_path):
    identity = create_keys(tmp_path / "keys", "north")
    with pytest.raises(
        ValidationError,
        match=r"0.025 times the 40 patients of site .north. is 1, and must be at most 0.1",
    ):
        make_study(identity, privacy={"delta": 0.025})


def test_study__unit_example_counts_declared_examples(tmp_path):
    identity = create_keys(tmp_path / "keys", "north")
    study = make_study(identity, privacy={"unit": "example", "examples_per_patient": 50, "delta": 5e-5})
    assert study.units("north") == 2000
    assert make_study(identity).units("north") == 40


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: demo\nrouns: 3\n", r"study\.yaml:2: unknown key 'rouns'|study\.yaml: unknown key 'rouns'"),
        ("name: demo\nprivacy:\n  delta: 2\n", r"study\.yaml:3: privacy\.delta: .*less than 1 \(found 2\)"),
        ("name: demo\nprivacy:\n  max_epsilon: -1\n", r"study\.yaml:3: privacy\.max_epsilon: .*\(found -1\)"),
        ("name: demo\nprivacy:\n  noise_multiplier: 0\n", r"study\.yaml:2: privacy: noise_multiplier 0 has no finite"),
        ("name: demo\nprivacy:\n  unit: family\n", r"study\.yaml:3: privacy\.unit: .*'patient' or 'example'"),
        ("name: a b\n", r"study\.yaml:1: name"),
        ("- demo\n", "a mapping of keys to values expected"),
        ("name: [\n", r"study\.yaml:2: not YAML"),
    ],
)
def test_read_study_terms__mistakes_name_file_line_and_key(tmp_path, text, message):
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(FedcallError, match=message) as raised:
        read_study_terms(tmp_path / "study.yaml")
    assert "\n" not in str(raised.value)


def test_model_terms__trainable_parts_nest():
    names = ["stem.weight", "block1.norm1.weight", "norm.bias", "head.weight", "hidden.weight", "normal.weight"]
    parts = [set(ModelTerms(trainable=part).trainable_names(names)) for part in ("head", "norm_and_head", "all")]
    assert parts == [{"head.weight"}, {"block1.norm1.weight", "norm.bias", "head.weight"}, set(names)]


def test_model_terms__chemistry_is_trained_where_it_is_named_only():
    names = ["stem.weight", "norm0.weight", "head.weight", "chemistry.prior"]
    found = {part: ModelTerms(trainable=part).trainable_names(names) for part in get_args(Trainable)}
    assert found == {
        "all": ["head.weight", "norm0.weight", "stem.weight"],
        "norm_and_head": ["head.weight", "norm0.weight"],
        "head": ["head.weight"],
        "chemistry": ["chemistry.prior"],
        "chemistry_and_head": ["chemistry.prior", "head.weight"],
    }


def test_study_digest__every_term_counts(tmp_path):
    identity = create_keys(tmp_path / "keys", "north")
    study = make_study(identity)
    assert study.digest == make_study(identity).digest
    assert study.digest != make_study(identity, rounds=5).digest
    assert study.digest != make_study(identity, privacy={"noise_multiplier": 1.3}).digest


def test_study__signed_before_there_was_an_evaluation_keeps_its_digest():
    site = {"name": "north", "public_key": "B" * 43 + "=", "node_key": "key", "patients": 40}
    study = Study.model_validate(
        {"name": "old", "coordinator": "A" * 43 + "=", "sites": [site], "model": {"initial_weights": "0" * 64}}
    )
    assert study.digest == "2f7328102c559f167e891a47c54fc304f4e6dad0b3ce5a8c2aa6e1de6eb78e0a"  # of 28a9b9b
    judged = study.model_copy(update={"evaluation": EvaluationTerms(epsilon=0.3)})
    assert judged.digest != study.digest
    assert Study.model_validate_json(judged.canonical()) == judged


def test_study__held_out_patients_are_declared_for_the_judge_only(tmp_path):
    identity = create_keys(tmp_path / "keys", "north")
    site = {**identity.model_dump(), "patients": 40, "holdout": 5}
    judged = make_study(identity, sites=[site], evaluation={"epsilon": 0.3})
    assert [one.holdout for one in judged.judging_sites] == [5]
    for evaluation in (None, {"regions": ["chr20"]}):
        with pytest.raises(ValidationError, match=r"only a study with evaluation\.epsilon does"):
            make_study(identity, sites=[site], evaluation=evaluation)


@pytest.mark.parametrize("regions", [["chr20:9-1"], ["chr20 "], [""], ["chr20:0-7"]])
def test_study__evaluation_regions_that_are_none_are_refused(tmp_path, regions):
    with pytest.raises(ValidationError, match="is no region"):
        make_study(create_keys(tmp_path / "keys", "north"), evaluation={"regions": regions})


def test_study__gaussian_judge_needs_a_delta_that_promises_something(tmp_path):
    identity = create_keys(tmp_path / "keys", "north")
    site = {**identity.model_dump(), "patients": 40, "holdout": 5}
    for delta, message in ((0.0, "needs a delta"), (0.03, "must be at most 0.1")):
        evaluation = {"epsilon": 0.3, "mechanism": "gaussian", "delta": delta}
        with pytest.raises(ValidationError, match=message):
            make_study(identity, sites=[site], evaluation=evaluation)
