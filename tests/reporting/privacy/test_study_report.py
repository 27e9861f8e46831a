"""The privacy report of a study, put together from its sites' reports."""

import json
from pathlib import Path

import jsonschema
import pytest

from fedcall.errors import FedcallError
from fedcall.keys import read_secret
from fedcall.reporting.base.pages import render, to_json
from fedcall.reporting.privacy.documents import PrivacyReport
from fedcall.reporting.privacy.ledger_facts import read_ledger
from fedcall.reporting.privacy.rounds import read_rounds
from fedcall.reporting.privacy.site_report import privacy_report
from fedcall.reporting.privacy.study_report import read_privacy_report, study_privacy_figures, study_privacy_report
from fedcall.reporting.schemas import REPORTS, report_schema
from reporting_page import shown_values
from reporting_study import Federation, make_federation, play_round


def site_reports(federation: Federation, shareable: bool = False) -> list[PrivacyReport]:
    study = federation.study
    return [
        privacy_report(
            study,
            site,
            read_rounds(study, site, hospital.rounds),
            read_ledger(hospital.ledger, read_secret(hospital.keys), study, site),
            shareable,
        )
        for site, hospital in federation.sites.items()
    ]


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    federation = make_federation(tmp_path_factory.mktemp("study"))
    for number in (1, 2, 3):
        play_round(federation, "north", number)
    play_round(federation, "south", 1)
    play_round(federation, "south", 2, "quarantined", "outlier")
    return federation


def test_study_privacy_report__takes_the_most_exposed_site_and_lists_refusals(federation: Federation) -> None:
    north, south = site_reports(federation)
    report = study_privacy_report(federation.study, [south, north])
    assert report.largest_epsilon_pld == north.spent.epsilon_pld
    assert [row.site for row in report.sites] == ["north", "south"]
    assert [(row.accepted, row.refused) for row in report.sites] == [(3, 0), (1, 1)]
    assert [(row.site, row.round, row.reason) for row in report.refusals] == [("south", 2, "outlier")]
    assert (report.rounds_done, report.updates, report.refused, report.missing) == (3, 4, 1, ())
    assert report.light.colour == "amber"


def test_study_privacy_report__page_shows_what_the_json_says(federation: Federation) -> None:
    report = study_privacy_report(federation.study, site_reports(federation))
    page = render(report, "privacy_study.html", study_privacy_figures(report))
    shown = shown_values(page, json.loads(to_json(report)))
    assert {"sentence", "sites.1.epsilon_pld", "refusals.0.sentence", "checklist.0.statement"} <= shown


def test_study_privacy_report__tells_nothing_of_other_studies(tmp_path: Path) -> None:
    other, mine = make_federation(tmp_path, name="other"), make_federation(tmp_path, name="mine")
    for number in (1, 2, 3):
        play_round(other, "north", number)
    for site in mine.sites:
        play_round(mine, site, 1)
    full, shared = site_reports(mine), site_reports(mine, shareable=True)
    assert full != shared
    assert study_privacy_report(mine.study, full) == study_privacy_report(mine.study, shared)


def test_study_privacy_report__names_sites_that_have_not_reported(federation: Federation) -> None:
    north, _ = site_reports(federation)
    report = study_privacy_report(federation.study, [north])
    assert report.missing == ("south",)
    assert report.light.colour == "amber"


def test_study_privacy_report__report_of_another_study_is_refused(federation: Federation, tmp_path: Path) -> None:
    other = make_federation(tmp_path)
    with pytest.raises(FedcallError, match="about study demo"):
        study_privacy_report(other.study, site_reports(federation))


def test_study_privacy_report__site_given_twice_is_refused(federation: Federation) -> None:
    north, _ = site_reports(federation)
    with pytest.raises(FedcallError, match="'north' has two"):
        study_privacy_report(federation.study, [north, north])


def test_read_privacy_report__reads_back_what_was_written(federation: Federation, tmp_path: Path) -> None:
    north, _ = site_reports(federation)
    path = tmp_path / "privacy.json"
    path.write_text(to_json(north))
    assert read_privacy_report(path) == north


def test_read_privacy_report__other_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "privacy.json"
    path.write_text('{"kind": "evaluation"}')
    with pytest.raises(FedcallError, match=r"privacy\.json: not a site's privacy report"):
        read_privacy_report(path)


def test_report_schema__accepts_what_is_written_and_nothing_else(federation: Federation) -> None:
    north, south = site_reports(federation)
    written = {"privacy": north, "privacy-study": study_privacy_report(federation.study, [north, south])}
    for name, report in written.items():
        content = json.loads(to_json(report))
        jsonschema.validate(content, report_schema(name))
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(content | {"patients_without_data": 3}, report_schema(name))
    assert set(REPORTS) == {"privacy", "privacy-study", "evaluation", "comparison", "dashboard", "utility", "audit"}
