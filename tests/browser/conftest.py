"""Real pages in a real browser. Without one, these tests skip and say so."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ViewportSize, sync_playwright

from fedcall.documents import Document
from fedcall.genomics.worst_errors import CallError, DrawnRead, WorstErrors
from fedcall.keys import read_secret
from fedcall.reporting.evaluation import evaluation_figures, evaluation_report
from fedcall.reporting.evaluation_inputs import read_errors, read_results
from fedcall.reporting.ledger_facts import read_ledger
from fedcall.reporting.pages import write_report
from fedcall.reporting.privacy_report import privacy_figures, privacy_report
from fedcall.reporting.privacy_study_report import study_privacy_figures, study_privacy_report
from fedcall.reporting.rounds import read_rounds
from fedcall.reporting.utility import utility_figures, utility_report
from reporting_points import made_sweep
from reporting_study import make_federation, play_round, write_concordances

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DESKTOP: ViewportSize = {"width": 1280, "height": 900}


@dataclass(frozen=True)
class Page:
    """A report on disk and the document it shows."""

    path: Path
    document: Document

    @property
    def address(self) -> str:
        """What a person would open."""
        return self.path.absolute().as_uri()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium of the system, without a window."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip(f"no browser ({', '.join(BROWSERS)}); on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Page]:
    """Every kind of page, of a study with a refusal and with errors in its calls."""
    folder = tmp_path_factory.mktemp("pages")
    federation = make_federation(folder)
    for number in (1, 2, 3):
        play_round(federation, "north", number)
    play_round(federation, "south", 1)
    play_round(federation, "south", 2, "quarantined", "outlier")
    study = federation.study
    sites = [
        privacy_report(
            study,
            site,
            read_rounds(study, site, hospital.rounds),
            read_ledger(hospital.ledger, read_secret(hospital.keys), study, site),
            False,
        )
        for site, hospital in federation.sites.items()
    ]
    whole = study_privacy_report(study, sites)
    results = write_concordances(folder, {"north": 2, "south": 2}, {"final": 0.05, "initial": 0.2, "bcftools": 0.1})
    errors = folder / "north" / "errors" / "north_h0.json"
    errors.parent.mkdir(parents=True)
    errors.write_text(WorstErrors(errors_in_all=7, errors=tuple(map(_error, range(7)))).model_dump_json())
    swept = utility_report(made_sweep())
    calls = evaluation_report(study, read_results(results), read_errors([errors]))
    return {
        "site": _write(folder, "site", sites[0], "privacy.html", privacy_figures(sites[0])),
        "study": _write(folder, "study", whole, "privacy_study.html", study_privacy_figures(whole)),
        "evaluation": _write(folder, "evaluation", calls, "evaluation.html", evaluation_figures(calls)),
        "utility": _write(folder, "utility", swept, "utility.html", utility_figures(swept)),
    }


def _write(folder: Path, name: str, document: Document, template: str, figures: dict[str, str]) -> Page:
    path = folder / f"{name}.html"
    write_report(document, template, path, path.with_suffix(".json"), figures)
    return Page(path, document)


def _error(number: int) -> CallError:
    reference = "ACGTTGCAAGCTTACGGATCCATGCATTAGCCTAGGTTCAA"
    read = DrawnRead(reverse=False, mapping_quality=60, bases=reference[:20] + "T" + reference[21:], insertions=())
    return CallError(
        contig="chr1",
        position=1021 + number,
        ref="C",
        alt="CTAGGTTCAACGATCGGATTACAGGCTTAACGT" if number == 3 else "T",
        kind="false call",
        true_copies=0,
        called_copies=1,
        genotype_quality=40 - number,
        severity=40 - number,
        depth=12,
        supporting=5,
        start=1001 + number,
        reference=reference,
        reads=(read,) * 12,
    )
