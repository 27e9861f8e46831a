"""A study that goes on: from the final model, under the old terms, naming the old study."""

import pytest

from consortium import make_consortium
from fedcall.errors import FedcallError
from fedcall.keys import create_keys, rotate_keys
from fedcall.privacy.accounting.epsilon import study_epsilon
from fedcall.protection.helper_keys import create_helper_keys
from fedcall.study.drafting import complete_terms, review_yaml, sign_study
from fedcall.study.extension import Extension, extend_study
from fedcall.study.quorum import least_sites
from fedcall.study.terms import Study, read_study
from fedcall.weights import read_weights, write_weights


@pytest.fixture
def old(tmp_path):
    """Return a study of four rounds, three of which made `final.safetensors`."""
    consortium = make_consortium(tmp_path, rounds=4, patients={"north": 40, "south": 20, "west": 30})
    model = read_weights(consortium.initial)
    metadata = {**model.metadata, "study": consortium.study.digest, "round": "4"}
    write_weights(tmp_path / "final.safetensors", model.tensors, metadata)
    return consortium


def extension(old, **changes) -> Extension:
    values = {"study": old.study_path, "final": old.folder / "final.safetensors", "name": "on", "rounds": 2}
    return Extension(**{**values, **changes})


def test_extend__goes_on_from_the_final_model_and_names_the_old_study(old):
    study, both = extend_study(extension(old))
    assert study.continues == old.study.digest
    assert study.model.initial_weights == read_weights(old.folder / "final.safetensors").digest
    assert (study.rounds, study.privacy, study.coordinator) == (2, old.study.privacy, old.study.coordinator)
    assert study.aggregation.minimum_sites == least_sites(3)
    assert both.rdp >= study_epsilon(old.study.privacy, 3 + 2).pld, "chosen after results, both cost more than one plan"


def test_extend__sites_join_leave_and_change_keys(old):
    rotate_keys(old.keys("north"))
    create_keys(old.keys("east"), "east")
    sites = [f"{old.keys('north') / 'site.json'}=38", f"{old.keys('east') / 'site.json'}=9"]
    study, _ = extend_study(extension(old, sites=sites, without=["south"]))
    assert {site.name: site.patients for site in study.sites} == {"north": 38, "west": 30, "east": 9}
    assert study.site("north").public_key != old.study.site("north").public_key
    assert study.site("west") == old.study.site("west")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "tiny"}, "results of both would lie in one folder"),
        ({"without": ["nowhere"]}, "site 'nowhere' is not part of study 'tiny'"),
        ({"final": "initial.safetensors"}, "not a model that rounds of study 'tiny'"),
    ],
)
def test_extend__refuses(old, changes, message):
    if "final" in changes:
        changes = {"final": old.folder / changes["final"]}
    with pytest.raises(FedcallError, match=message):
        extend_study(extension(old, **changes))


def test_extend__other_helpers_are_for_masked_studies(old):
    create_helper_keys(old.keys("notary"), "notary")
    with pytest.raises(FedcallError, match="has protection mode 'plain'; helpers are exchanged in mode 'masked' only"):
        extend_study(extension(old, helpers=[old.keys("notary") / "helper.json"]))


def test_study__without_continues_keeps_its_digest(old):
    assert "continues" not in old.study.model_dump()
    assert Study.model_validate(old.study.model_dump()).digest == old.study.digest


def test_sign_study__never_over_another_signed_study(old, tmp_path):
    (tmp_path / "on.yaml").write_text(review_yaml(extend_study(extension(old))[0]))
    before = old.study_path.read_bytes()
    with pytest.raises(FedcallError, match="holds another signed study, 'tiny'"):
        sign_study(tmp_path / "on.yaml", old.keys("coordinator"), old.study_path)
    assert old.study_path.read_bytes() == before
    sign_study(tmp_path / "on.yaml", old.keys("coordinator"), tmp_path / "on.json")
    assert read_study(tmp_path / "on.json").continues == old.study.digest
    sign_study(tmp_path / "on.yaml", old.keys("coordinator"), tmp_path / "on.json")


@pytest.mark.parametrize(("sites", "least"), [(1, 1), (2, 2), (3, 2), (4, 3), (9, 6)])
def test_complete_terms__one_hospital_never_closes_a_round_alone(old, tmp_path, sites, least):
    terms = tmp_path / "terms.yaml"
    terms.write_text("name: demo\nprivacy: {delta: 0.001}\n")
    for number in range(sites):
        create_keys(tmp_path / f"k{number}", f"s{number}")
    declared = [f"{tmp_path}/k{number}/site.json=30" for number in range(sites)]
    made = complete_terms(terms, old.initial, old.keys("coordinator") / "site.json", declared)
    assert made.aggregation.minimum_sites == least
    if least > 1:
        terms.write_text(f"name: demo\nprivacy: {{delta: 0.001}}\naggregation: {{minimum_sites: {least - 1}}}\n")
        with pytest.raises(FedcallError, match=f"lets {least - 1} of {sites} hospitals close a round"):
            complete_terms(terms, old.initial, old.keys("coordinator") / "site.json", declared)
