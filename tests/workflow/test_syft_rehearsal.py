"""Hospitals that answer jobs in PySyft folders: the shipped rehearsal, and a hospital's own command."""

import json
import shutil

import pytest

from rehearsal_workspace import ROOT, Workspace

pytest.importorskip("syft_job", reason="PySyft is not installed (fedcall[syft])")


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("syft"))
    shutil.copytree(ROOT / "config", workspace.path / "config")
    result = workspace.snakemake("--configfile", "config/syft.yaml", "--quiet", "all", timeout=1500)
    assert result.returncode == 0, result.stdout[-4000:]
    return workspace


@pytest.mark.slow
def test_rehearsal__three_datasites_end_with_one_model_and_reports(rehearsal):
    results = rehearsal.path / "results/syft"
    for site in ("hillside", "lakeside", "seaside"):
        for number in (1, 2):
            receipt = json.loads((results / site / "rounds" / str(number) / "receipt.json").read_bytes())["body"]
            assert receipt["status"] == "accepted", receipt
        outputs = results / f"SyftBox/{site}@hospital.example/app_data/job/review"
        assert len(list(outputs.rglob("outputs/update.safetensors"))) == 2
        assert (results / site / "privacy.html").exists()
    assert (results / "final.safetensors").exists()
