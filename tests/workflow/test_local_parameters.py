"""What a hospital fits on its own patients: a table from one patient's reads, for that patient's examples and calls."""

import json
import re

import pytest
import yaml

from fedcall.errors import FedcallError
from fedcall.reporting.privacy.checklist import KeptAtSite, local_parameters
from fedcall.workflow.configuration import read_config
from rehearsal_workspace import COHORT, STUDY, Workspace

READERS = {"extract_pileup", "call_variants", "call_baseline"}


def plan(folder, local: dict | None) -> str:
    workspace = Workspace.create(folder, COHORT, STUDY)
    if local is not None:
        config = workspace.path / "config/config.yaml"
        config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"local": local}))
    return workspace.snakemake("--dry-run", "--printshellcmds").stdout


def test_local__a_table_depends_on_its_patients_reads_and_nobody_elses(tmp_path):
    """So the sensitivity of training holds: one patient changes that patient's rows only (docs/threat-model.md)."""
    output = plan(tmp_path / "local", {"base_qualities": "recalibrated"})
    patients = set(re.findall(r"wildcards: .*patient=([\w-]+)", output))
    assert len(patients) >= 10
    made, used = set(), set()
    for job in re.split(r"\n\s*(?=(?:local)?rule )", output):
        rule, wildcards = re.match(r"(?:local)?rule (\w+):", job), re.search(r"patient=([\w-]+)", job)
        if rule is None or wildcards is None:
            continue
        inputs = re.search(r"input: (.*)", job)[1].split(", ")
        patient = wildcards[1]
        table = f"results/tiny/{re.search(r'site=([a-z]+)', job)[1]}/base_qualities/{patient}.json"
        named = {name for name in patients for path in inputs if re.search(rf"/{name}\.", path)}
        if rule[1] == "recalibrate_qualities":
            made.add(patient)
            assert named == {patient}, "a table is made from one patient's reads"
            assert {path for path in inputs if patient in path} == {
                table.replace("base_qualities", "alignments").replace("json", suffix) for suffix in ("bam", "bam.bai")
            }, "no label, and nothing else of the patient"
            assert f"--output {table}" in job
        if rule[1] in READERS:
            used.add(rule[1])
            assert named == {patient}, "examples and calls are one patient's"
            assert table in inputs
            assert f"--recalibration {table}" in job
    assert made == patients
    assert used == READERS
    assert re.search(r"--recalibrated +>", output)


def test_local__left_out_nothing_is_made_or_used(tmp_path):
    output = plan(tmp_path / "local", None)
    assert "rule prepare_training_patient" in output
    assert "recalibrat" not in output


def test_local__a_mistake_is_one_line(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"study": "s", "cohort": COHORT, "local": {"base_qualities": "yes"}}))
    with pytest.raises(FedcallError, match=r"config\.yaml:\d+: .*'reported' or 'recalibrated' \(found 'yes'\)") as told:
        read_config(path)
    assert "\n" not in str(told.value)


def test_local__the_privacy_report_names_it():
    assert local_parameters(KeptAtSite()) == ()
    for kept in (KeptAtSite(recalibrated=True), KeptAtSite(own_chemistry=True)):
        (told,) = local_parameters(kept)
        assert "never leave" in told.statement
        json.loads(told.model_dump_json())
    assert len(local_parameters(KeptAtSite(True, True))) == 2


def test_local__nothing_that_leaves_is_made_from_a_chemistry_of_the_hospitals_own(tmp_path):
    """It is made without noise: what else reads it would have to be as private as the patients."""
    output = plan(tmp_path / "own", {"chemistry": "fitted"})
    made, calls = set(), set()
    for job in re.split(r"\n\s*(?=(?:local)?rule )", output):
        rule = re.match(r"(?:local)?rule (\w+):", job)
        if rule is None:
            continue
        inputs = re.search(r"input: (.*)", job)
        read = [path for path in (inputs[1].split(", ") if inputs else ()) if "/own_" in path]
        if rule[1] == "fit_chemistry":
            site = re.search(r"site=([a-z]+)", job)[1]
            made.add(site)
            examples = [path for path in inputs[1].split(", ") if "/examples/" in path]
            assert examples
            assert all(path.startswith(f"results/tiny/{site}/examples/") for path in examples)
        elif rule[1] == "call_own_variants":
            site = re.search(r"site=([a-z]+)", job)[1]
            calls.add(site)
            assert read == [f"results/tiny/{site}/own_model.safetensors"]
        elif rule[1] != "all":
            assert not read, rule[1]
    assert made == calls
    assert len(made) >= 2
    assert re.search(r"--own-chemistry +>", output)
