"""The report plugin: registered as Snakemake expects, and the dossier of a rehearsed study."""

import hashlib
import json
import re
import zipfile
from pathlib import Path

import pytest
from snakemake_interface_common.plugin_registry.tests import TestRegistryBase as RegistryBase
from snakemake_interface_report_plugins.registry import ReportPluginRegistry

from fedcall.documents import read_unverified
from fedcall.study.claims import Claim, Receipt
from rehearsal_workspace import Workspace
from snakemake_report_plugin_privacy import Reporter, ReportSettings
from snakemake_report_plugin_privacy.documents import Dossier, Edge, RuleRun
from snakemake_report_plugin_privacy.rule_graph import draw

SITES = ("north", "south")


class TestPlugin(RegistryBase):
    """The interface's own tests of a plugin."""

    __test__ = True

    def get_registry(self):
        return ReportPluginRegistry()

    def get_test_plugin_name(self):
        return "privacy"

    def validate_plugin(self, plugin):
        assert plugin.reporter is Reporter
        assert plugin.cli_prefix == "report-privacy"

    def validate_settings(self, settings, plugin):
        assert settings == ReportSettings(output=Path("dossier.html"))

    def get_example_args(self):
        return ["--report-privacy-output", "dossier.html"]

    def test_registry_register_cli_args(self):
        """Not asked: the interface's test holds only for a plugin installed alone, and Snakemake brings `html`."""


def report(workspace: Workspace, *options: object) -> tuple[int, str]:
    result = workspace.snakemake(*options)
    return result.returncode, result.stdout


@pytest.fixture(scope="module")
def written(rehearsal, tmp_path_factory) -> Path:
    """The page, with its JSON beside it."""
    page = tmp_path_factory.mktemp("dossier") / "dossier.html"
    code, output = report(rehearsal, "--reporter", "privacy", "--report-privacy-output", page)
    assert code == 0, output[-4000:]
    return page


@pytest.fixture(scope="module")
def dossier(written) -> Dossier:
    return Dossier.model_validate_json(written.with_suffix(".json").read_text())


@pytest.mark.slow
def test_dossier__every_release_with_its_claim_and_receipt(rehearsal, dossier):
    assert [(release.site, release.round) for release in dossier.releases] == [(s, r) for s in SITES for r in (1, 2)]
    for release in dossier.releases:
        folder = rehearsal.path / f"results/tiny/{release.site}/rounds/{release.round}"
        claim, _ = read_unverified((folder / "claim.json").read_bytes(), Claim)
        receipt, _ = read_unverified((folder / "receipt.json").read_bytes(), Receipt)
        assert (release.claim, release.update, release.claimed_epsilon) == (claim.digest, claim.update, claim.epsilon)
        assert (release.status, release.aggregator_epsilon) == (receipt.status, receipt.epsilon)


@pytest.mark.slow
def test_dossier__how_a_release_was_made(rehearsal, dossier):
    making = dossier.releases[1].making
    assert making.rule == "train_round"
    assert making.software.startswith("fedcall ")
    assert 0 < making.seconds < 600
    shared = {item.file: item.sha256 for item in making.inputs if item.file}
    assert "results/tiny/north/rounds/2/global.safetensors" in shared
    for file, digest in shared.items():
        assert hashlib.sha256((rehearsal.path / file).read_bytes()).hexdigest() == digest


@pytest.mark.slow
def test_dossier__names_no_patient(written):
    for text in (written.read_text(), written.with_suffix(".json").read_text()):
        assert not re.search(r"(north|south)-(h?\d+)", text)


@pytest.mark.slow
def test_dossier__budget_is_that_of_the_reports(rehearsal, dossier):
    for site in dossier.budget:
        content = json.loads((rehearsal.path / f"results/tiny/{site.site}/privacy.json").read_text())
        assert site.model_dump(mode="json") == content
    assert dossier.budget_of_study is not None


@pytest.mark.slow
def test_dossier__rules_are_those_that_ran(rehearsal, dossier):
    ran = {path.name for path in (rehearsal.path / "benchmarks").iterdir()}
    assert {rule.rule for rule in dossier.rules} == ran
    assert Edge(before="upload_update", after="fetch_global") in dossier.edges


@pytest.mark.slow
def test_dossier__page_needs_no_network(written):
    assert not re.search(r"""(?:src|href)\s*=|url\(|@import""", written.read_text())


@pytest.mark.slow
def test_dossier__altered_claim_is_refused(rehearsal, tmp_path):
    workspace = rehearsal.copy(tmp_path / "copy")
    claim = workspace.path / "results/tiny/north/rounds/1/claim.json"
    claim.write_text(claim.read_text().replace('"rows_per_unit":16', '"rows_per_unit":17'))
    code, output = report(workspace, "--reporter", "privacy", "--report-privacy-output", "altered.html")
    assert code == 1
    assert "rounds/1/claim.json: claim: the signature does not match the content" in output
    assert not (workspace.path / "altered.html").exists()


def test_dossier__before_the_workflow_has_run(workspace):
    code, output = report(workspace, "--reporter", "privacy", "--report-privacy-output", "dossier.html")
    assert code == 1
    assert "marked for report but does not exist" in output


@pytest.mark.slow
def test_dossier__page_must_be_html(rehearsal, tmp_path):
    code, output = report(rehearsal, "--reporter", "privacy", "--report-privacy-output", tmp_path / "dossier.pdf")
    assert code == 1
    assert "dossier.pdf: a file that ends in .html is expected" in output


@pytest.mark.slow
def test_report__bundles_the_reports_with_captions(rehearsal, tmp_path):
    code, output = report(rehearsal, "--report", tmp_path / "report.zip")
    assert code == 0, output[-4000:]
    with zipfile.ZipFile(tmp_path / "report.zip") as bundle:
        names = bundle.namelist()
        page = bundle.read("report/report.html").decode()
    assert sum(name.endswith("privacy.html") for name in names) == 3
    assert sum(name.endswith("evaluation.html") for name in names) == 1
    assert "The privacy budget: what was released" in page
    assert "Precision, recall and F1 of the calls" in page


def test_draw__a_box_per_rule_and_a_way_back_dashed():
    rules = [RuleRun(rule=name, level=level, jobs=2, seconds=1.0) for level, name in enumerate(("first", "second"))]
    edges = [Edge(before="first", after="second"), Edge(before="second", after="first")]
    svg = draw(rules, edges)
    assert svg.count("<rect") == 2
    assert svg.count("<path") == 2
    assert svg.count('class="back"') == 1
