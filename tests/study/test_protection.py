"""Terms of protected updates: what they mean, what is refused and why, and that older studies keep their digests."""

import pytest
from pydantic import ValidationError

from fedcall.documents import write_signed
from fedcall.errors import FedcallError
from fedcall.keys import create_keys, read_signing_key
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.terms import Study, read_study
from pooled_study import DELTA, HELPER, MASKED, POOLED, make_study

EVIDENCE = {"simulated": {"root": "0" * 64, "measurements": ["0" * 96]}}
TDX = {"tdx": {"measurements": [{"mr_td": "0" * 96, "rtmr1": "0" * 96, "rtmr2": "0" * 96}]}}
TRIMMED = {"strategy": "fedtrimmedavg", "minimum_sites": 5}  # averages 3 of 5
SEALED = {"mode": "sealed", "minimum_sites": 3, "evidence": EVIDENCE}


def test_study__pooled_noise_is_shared_by_the_sites_that_are_counted_on():
    study = make_study(protection={**MASKED, "tolerated_sites": 1})
    assert (study.noise_shares, study.least_sites, study.sends_sums, study.step_size) == (2, 3, True, 0.1)
    assert make_study(privacy={**POOLED, "noise": "own"}).noise_shares == 1
    assert make_study(privacy={**POOLED, **DELTA}).step_size == 1.0
    assert make_study(aggregation={"minimum_sites": 4}).least_sites == 4
    assert Study.model_validate_json(study.canonical()) == study


def test_study__terms_at_their_defaults_leave_the_digest_as_it_was():
    plain = Study(name="old")
    spelt = Study.model_validate(
        {"name": "old", "protection": {"mode": "plain"}, "privacy": {"noise": "own", "contribution": "gradient"}}
    )
    assert spelt.digest == plain.digest
    assert "protection" not in plain.model_dump()
    assert "noise" not in PrivacyTerms().model_dump()
    assert PrivacyTerms().digest == "ae80103658208ddc089d3e80eabca49af17403911aea3a5e393f4ad487aea4e6"  # of ef80e7a


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"privacy": {**POOLED, "steps_per_round": 4}}, "own share of the noise before it is pooled; set steps_per"),
        ({"privacy": {**POOLED, **DELTA, "steps_per_round": 2}}, "'delta' makes one noisy sum a round"),
        ({"privacy": POOLED, "protection": {}}, "'pooled' in protection mode 'plain' is not private"),
        ({"privacy": {**POOLED, "mechanism": "laplace"}}, "shares of Laplace noise do not add up to Laplace noise"),
        ({"privacy": {**POOLED, "clipping": "adaptive"}}, "needs clipping 'fixed'"),
        ({"privacy": {**POOLED, "noise_multiplier": 0, "max_epsilon": None}}, "has nothing to pool"),
        ({"privacy": {**POOLED, "max_epsilon_if_broken": 2.0}}, "2 is below max_epsilon 8"),
        ({"privacy": {"max_epsilon_if_broken": 9.0}, "protection": {}}, "belongs to noise 'pooled'"),
        ({"privacy": {**POOLED, "contribution": "delta"}}, "needs local_steps"),
        ({"privacy": {**POOLED, "local_steps": 4}}, "local_steps belongs to contribution 'delta'"),
        ({"privacy": {**POOLED, **DELTA, "unit": "example", "examples_per_patient": 1}}, "is a patient's"),
        ({"privacy": {"steps_per_round": 4}}, "opens one noisy sum a round"),
        ({"privacy": {"steps_per_round": 1, "mechanism": "laplace"}}, "needs privacy.mechanism 'gaussian'"),
        (
            {"privacy": {"steps_per_round": 1, "clipping": "adaptive", "delta": 1e-4}, "patients": 500},
            "privacy.clipping 'fixed'",
        ),
        ({"training": {"iterate_averaging": 0.5}}, "mode 'masked' opens noisy sums; set 0"),
        ({"training": {"iterate_averaging": 0.5}, "privacy": DELTA, "protection": {}}, "is one noisy sum; set 0"),
        ({"aggregation": {"strategy": "fedmedian", "minimum_sites": 3}}, "'fedmedian' looks at single updates"),
        ({"aggregation": {"strategy": "fedtrimmedavg", "minimum_sites": 5}, "sites": 5}, "looks at single updates"),
        ({"aggregation": {"strategy": "krum", "minimum_sites": 5}, "sites": 5}, "looks at single updates"),
        ({"aggregation": {"strategy": "multikrum", "minimum_sites": 5}, "sites": 5}, "looks at single updates"),
        ({"sites": 2}, "minimum_sites 3 exceeds the 2 sites listed"),
        ({"protection": {"mode": "masked"}}, "needs minimum_sites, 2 or more"),
        ({"protection": {"mode": "masked", "minimum_sites": 1}}, "greater than or equal to 2"),
        ({"protection": {**MASKED, "tolerated_sites": 3}}, "tolerated_sites 3 leaves no share of the noise"),
        ({"protection": SEALED}, "the enclave sees each update with its own share of the noise alone"),
        ({"protection": {**SEALED, "tolerated_sites": 1}, "privacy": {}}, "in mode 'sealed' nobody helps"),
        ({"protection": {**SEALED, "helpers": [HELPER]}, "privacy": {}}, "in mode 'sealed' nobody helps"),
        ({"protection": {**SEALED, "minimum_sites": 5}, "privacy": {}}, "no average would ever be opened"),
        ({"protection": {"mode": "sealed"}, "privacy": {}}, "'sealed' needs minimum_sites, 2 or more"),
        ({"protection": {**MASKED, "evidence": EVIDENCE}}, "evidence belongs to protection mode 'sealed'"),
        (
            {"protection": SEALED, "privacy": {}, "aggregation": {"strategy": "krum", "minimum_sites": 5}, "sites": 5},
            "'krum' would publish values of 1 of 5 updates",
        ),
        (
            {
                "protection": {**SEALED, "minimum_sites": 4},
                "privacy": {},
                "aggregation": TRIMMED,
                "sites": 5,
            },
            "'fedtrimmedavg' would publish values of 3 of 5 updates",
        ),
        ({"protection": {**SEALED, "evidence": TDX}, "privacy": {}}, "gives an aggregator no key that comes back"),
        ({"protection": {"minimum_sites": 3}, "privacy": {}}, "belong to the other protection modes"),
        ({"protection": {"tolerated_sites": 1}, "privacy": {}}, "belong to the other protection modes"),
        ({"patients": 900, "sites": 40, "privacy": {**POOLED, "delta": 1e-4}}, "a number of 32 bits holds 32768"),
        ({"privacy": {**POOLED, "noise_multiplier": 3000}}, "a number of 32 bits holds 32768"),
        (
            {"protection": {**MASKED, "helpers": [{**HELPER, "name": "site00"}]}},
            "'site00' is the name of a site and of a helper",
        ),
        (
            {"protection": {**MASKED, "helpers": [HELPER] * 2}},
            "helper 'notary' is listed 2 times",
        ),
    ],
)
def test_study__what_is_unsound_is_refused_with_its_reason(changes, reason):
    with pytest.raises(ValidationError, match=reason):
        make_study(**changes)


def test_read_study__masked_without_a_helper_is_not_complete(tmp_path):
    identity = create_keys(tmp_path / "keys", "coordinator")
    study = make_study(coordinator=identity.public_key)
    write_signed(tmp_path / "study.json", study, read_signing_key(tmp_path / "keys"))
    with pytest.raises(FedcallError, match="lacks helpers, of which protection mode 'masked' needs one"):
        read_study(tmp_path / "study.json")
    whole = make_study(coordinator=identity.public_key, protection={**MASKED, "helpers": [HELPER]})
    write_signed(tmp_path / "study.json", whole, read_signing_key(tmp_path / "keys"))
    assert read_study(tmp_path / "study.json") == whole


def test_study__sealed_terms_keep_every_check_of_single_updates():
    study = make_study(protection=SEALED, privacy={}, sites=7, aggregation=TRIMMED)
    assert (study.sends_sums, study.noise_shares, study.least_sites, study.lacks) == (False, 1, 5, "")
    assert Study.model_validate_json(study.canonical()) == study
    assert study.digest != make_study(protection={}, privacy={}, sites=7, aggregation=TRIMMED).digest
    lacking = make_study(protection={"mode": "sealed", "minimum_sites": 3}, privacy={})
    assert lacking.lacks.startswith("protection.evidence")
