"""A whole federation on one machine: two sites, three patients each, two rounds, an aggregator of its own."""

import json
from pathlib import Path

import pysam
import pytest

pytestmark = pytest.mark.slow

SITES = ("north", "south")
ROUNDS = (1, 2)


def ledger_rows(workspace, site: str) -> object:
    return json.loads(workspace.fedcall("ledger", "show", "--ledger", f"private/{site}/ledger.sqlite", "--json"))


def releases(workspace) -> dict[str, bytes]:
    folder = workspace.path / "results/tiny"
    names = ("update.safetensors", "claim.json", "receipt.json")
    paths = [folder / site / f"rounds/{round}" / name for site in SITES for round in ROUNDS for name in names]
    return {str(path.relative_to(folder)): path.read_bytes() for path in [*paths, folder / "final.safetensors"]}


def test_rehearsal__every_update_is_accepted(rehearsal):
    for site in SITES:
        for round in ROUNDS:
            receipt = json.loads((rehearsal.path / f"results/tiny/{site}/rounds/{round}/receipt.json").read_text())
            assert receipt["body"]["status"] == "accepted", receipt


def test_rehearsal__calls_are_indexed_vcf(rehearsal):
    for site in SITES:
        path = rehearsal.path / f"results/tiny/{site}/calls/{site}-h01.vcf.gz"
        with pysam.VariantFile(str(path)) as calls:
            assert list(calls.header.samples) == [f"{site}-h01"]
            assert {"GT", "GQ", "PL", "DP", "AD"} <= set(calls.header.formats)
            list(calls.fetch(next(iter(calls.header.contigs))))


def test_rehearsal__reports(rehearsal):
    for report in ("privacy", "evaluation", "north/privacy", "south/privacy"):
        page = (rehearsal.path / f"results/tiny/{report}.html").read_text()
        assert "</html>" in page
        json.loads((rehearsal.path / f"results/tiny/{report}.json").read_text())
    summary = rehearsal.fedcall(
        "report", "summary", "--evaluation", "results/tiny/evaluation.json", "--privacy", "results/tiny/privacy.json"
    )
    assert len(summary.splitlines()) == 5


def test_rehearsal__baselines_are_scored_beside_the_model(rehearsal):
    folder = rehearsal.path / "results/tiny/north/concordance"
    assert {path.parent.name for path in folder.glob("*/*.json")} == {"final", "likelihood", "initial", "bcftools"}


def test_rehearsal__reports_say_what_the_ledger_says(rehearsal):
    for site in SITES:
        report = json.loads((rehearsal.path / f"results/tiny/{site}/privacy.json").read_text())
        told = ledger_rows(rehearsal, site)
        most_exposed = told["exposures"][0]["epsilon_per_patient"]
        assert report["site_only"]["epsilon_pld"] == pytest.approx(most_exposed["pld"], abs=1e-9)
        assert report["site_only"]["epsilon_rdp"] == pytest.approx(most_exposed["rdp"], abs=1e-9)
        assert report["site_only"]["head"] == told["head"]
        assert report["spent"]["releases"] == len(told["rounds"]) == len(ROUNDS)


def test_rehearsal__evaluation_says_what_concordance_prints(rehearsal):
    report = json.loads((rehearsal.path / "results/tiny/evaluation.json").read_text())
    for site in SITES:
        patient, folder = f"{site}-h01", f"results/tiny/{site}"
        printed = rehearsal.fedcall(
            *(
                "concordance",
                "--truth",
                f"{folder}/labels/{patient}.vcf.gz",
                "--calls",
                f"{folder}/calls/{patient}.vcf.gz",
            ),
            *("--regions", "resources/cohort/regions.bed", "--reference", "resources/cohort/reference.fa"),
        )
        rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines()[1:]}
        scope = next(scope for scope in report["scopes"] if scope["site"] == site)
        for name, kind in {"SNPs": "snps", "indels": "indels", "all": "all"}.items():
            row = next(row for row in scope["figures"] if (row["caller"], row["type"]) == ("final", kind))
            figures = [row[figure]["value"] for figure in ("precision", "recall", "f1")]
            shown = ["-" if value is None else f"{value:.4f}" for value in figures]
            assert rows[name][:2] == [str(row["truth"]), str(row["calls"])]
            assert rows[name][2:5] == shown


def test_rehearsal__ledgers_verify(rehearsal):
    for site in SITES:
        rehearsal.fedcall("ledger", "verify", "--ledger", f"private/{site}/ledger.sqlite")


def test_rehearsal__second_run_does_nothing(rehearsal):
    result = rehearsal.snakemake()
    assert result.returncode == 0, result.stdout
    assert "Nothing to be done" in result.stdout


def test_rehearsal__final_model_that_is_gone_is_fetched_again(rehearsal):
    """Nothing that is there already needs it; a fetch that was killed must not end in a run that says "done"."""
    for name in ("final.safetensors", "south/admission.jsonl"):
        path = rehearsal.path / "results/tiny" / name
        content = path.read_bytes()
        path.unlink()
        try:
            planned = rehearsal.snakemake("--dry-run", "--quiet", "rules", "reason").stdout
        finally:
            path.write_bytes(content)
        assert "fetch_final" in planned, name


def test_rehearsal__deleted_update_comes_back_and_costs_nothing(rehearsal):
    before, spent = releases(rehearsal), {site: ledger_rows(rehearsal, site) for site in SITES}
    (rehearsal.path / "results/tiny/south/rounds/2/update.safetensors").unlink()
    result = rehearsal.snakemake("--quiet", "rules", "reason")
    assert result.returncode == 0, result.stdout[-6000:]
    assert releases(rehearsal) == before
    assert {site: ledger_rows(rehearsal, site) for site in SITES} == spent
    assert "Nothing to be done" in rehearsal.snakemake().stdout


def test_rehearsal__private_files_stay_outside_the_results(rehearsal):
    results = [path.name for path in (rehearsal.path / "results").rglob("*")]
    assert not {"secret", "signing.key", "node.key", "ledger.sqlite"} & set(results)
    for site in SITES:
        secret = rehearsal.path / f"private/{site}/keys/secret"
        assert secret.stat().st_mode & 0o077 == 0


def test_rehearsal__logs_and_benchmarks_match_rules(rehearsal):
    def folders(name: str) -> set[str]:
        return {path.name for path in Path(rehearsal.path / name).iterdir()}

    assert folders("logs") == folders("benchmarks")
    assert {"train_round", "fetch_global", "prepare_training_patient"} <= folders("logs")


def test_rehearsal__changed_study_needs_another_name(rehearsal):
    path = rehearsal.path / "config/study.yaml"
    agreed = path.read_text()
    try:
        path.write_text(agreed.replace("noise_multiplier: 2.0", "noise_multiplier: 3.0"))
        result = rehearsal.snakemake()
    finally:
        path.write_text(agreed)
    assert result.returncode == 2, result.stdout
    assert "study 'tiny' has begun with other terms (privacy;" in result.stdout
