"""What a site's report says of a sealed study: what each update was sealed to, verified again from its records."""

import pytest

from fedcall.attestation.checks import EvidenceRefused
from fedcall.attestation.enclave import create_simulated
from fedcall.errors import FedcallError
from fedcall.files import write_bytes
from fedcall.reporting.privacy.checklist import not_covered, trust
from fedcall.reporting.privacy.rounds import read_rounds
from fedcall.reporting.privacy.site_report import _sealed_conditions
from fedcall.reporting.privacy.spending import round_spends
from fedcall.study.drafting import summarise
from fedcall.study.evidence_exchange import record_folder
from fedcall.weights import read_weights
from sealed_consortium import SITES, SealedConsortium, make_sealed_consortium


@pytest.fixture
def played(tmp_path) -> SealedConsortium:
    """Return a study of which two rounds were played."""
    consortium = make_sealed_consortium(tmp_path)
    state = consortium.open_state()
    for number in (1, 2):
        base = read_weights(state.model_path(number))
        for site in SITES:
            receipt = consortium.receipt(site, number)
            write_bytes(receipt.with_name("claim.json"), consortium.contents(site, number, base)[0])
            write_bytes(receipt, consortium.send(state, site, number))
        assert state.close_round_if_due()
    return consortium


def test_report__says_what_each_update_was_sealed_to(played):
    folder = played.receipt("north", 1).parent.parent
    records = read_rounds(played.study, "north", folder)
    image = create_simulated(played.machine).measurement.hex()
    assert [record.sealed.measurement for record in records] == [image, image]
    for row in round_spends(played.study, records, [1, 2]):
        assert f"sealed to measurement {image[:16]}…, platform simulated (SIMULATED, protects nothing), verified" in (
            row.sentence
        )
    assert [condition.holds for condition in _sealed_conditions(played.study, records)] == [True, False]
    for file in record_folder(played.receipt("north", 2)).iterdir():
        file.unlink()
    record_folder(played.receipt("north", 2)).rmdir()
    records = read_rounds(played.study, "north", folder)
    first, _ = _sealed_conditions(played.study, records)
    assert (first.holds, "in 1 of 2 rounds" in first.statement) == (False, True)


def test_report__a_record_that_does_not_hold_is_refused(played):
    folder = played.receipt("north", 1).parent.parent
    report = record_folder(played.receipt("north", 1)) / "report.bin"
    whole = report.read_bytes()
    other = record_folder(played.receipt("north", 2)) / "report.bin"
    report.write_bytes(other.read_bytes())
    with pytest.raises(EvidenceRefused):
        read_rounds(played.study, "north", folder)
    report.write_bytes(whole)
    for name in ("report.bin", "binding.json", "verdict.json"):
        (record_folder(played.receipt("north", 1)) / name).write_bytes(
            (record_folder(played.receipt("north", 2)) / name).read_bytes()
        )
    with pytest.raises(FedcallError, match="is the record of site 'north', round 2"):
        read_rounds(played.study, "north", folder)


def test_study__its_policy_stands_in_words_where_people_look(played):
    said = str(summarise(played.study)["enclave"])
    assert "SIMULATED platform: it protects nothing" in said
    assert summarise(played.study)["protection"] == "sealed"
    aggregator = next(one.statement for one in trust(played.study) if one.topic == "The aggregator")
    assert "This bound does not rest on it" in aggregator
    assert said in aggregator
    lines = " ".join(one.statement for one in not_covered(played.study))
    assert "an operator who puts an older disk back is noticed, not stopped" in lines
    assert "sees each site's update, one by one" not in lines
