"""What the workflow plans, by dry runs."""

import os
import re

import pytest
import yaml

from encrypted_consortium import needs_openfhe
from fedcall.documents import write_signed
from fedcall.keys import create_keys, read_signing_key
from fedcall.study.terms import ModelTerms, Site, Study
from fedcall.workflow.run import SMALL_BASES
from rehearsal_workspace import COHORT, ROOT, STUDY, Workspace


def planned(output: str) -> dict[str, int]:
    """Return the number of jobs per rule from the table of a dry run."""
    table = output.split("Job stats:")[1].split("total")[0]
    return {rule: int(count) for rule, count in re.findall(r"^(\w+)\s+(\d+)\s*$", table, flags=re.MULTILINE)}


def dry_run(workspace, *options: object) -> dict[str, int]:
    result = workspace.snakemake("--dry-run", "--quiet", "rules", "reason", *options)
    assert result.returncode == 0, result.stdout[-4000:]
    return planned(result.stdout)


def test_dag__rehearsal(workspace):
    jobs = dry_run(workspace)
    assert jobs == {
        "all": 1,
        "simulate_cohort": 1,
        "create_keys": 1,
        "prepare_training_patient": 8,
        "prepare_patient": 2,
        "write_likelihood_model": 1,
        "train_public": 1,
        "agree_study": 1,
        "fetch_global": 2,
        "compare_people": 1,
        "train_round": 2,
        "upload_update": 2,
        "fetch_final": 1,
        "call_variants": 2,
        "call_baseline": 4,
        "call_classical": 2,
        "count_alleles": 2,
        "evaluate_baselines": 2,
        "evaluate_patient": 2,
        "evaluation_report": 1,
        "privacy_report": 1,
        "privacy_report_of_study": 1,
    }


def test_dag__patients_with_larger_regions_have_a_job_for_each_step(tmp_path):
    """So that a genome's truth, reads and callers are worked on side by side, and made again one by one."""
    workspace = Workspace.create(tmp_path / "workspace", COHORT | {"region_length": SMALL_BASES + 1}, STUDY)
    jobs = dry_run(workspace)
    steps = ("normalise_alignments", "normalise_labels", "extract_pileup", "evaluate_calls", "list_errors")
    assert {name: jobs.get(name) for name in steps} == dict(zip(steps, (10, 10, 8, 8, 2), strict=True))
    assert not [name for name in jobs if name.startswith(("prepare", "evaluate_patient", "evaluate_baselines"))]


def test_dag__other_peoples_callers_are_waited_for_one_by_one(tmp_path, monkeypatch):
    stand_in = tmp_path / "bin/freebayes"
    stand_in.parent.mkdir()
    stand_in.touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{stand_in.parent}:{os.environ['PATH']}")
    workspace = Workspace.create(tmp_path / "workspace", COHORT, STUDY)
    config = workspace.path / "config/config.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"callers": ["bcftools", "freebayes"]}))
    jobs = dry_run(workspace)
    assert {name: jobs[name] for name in ("evaluate_baselines", "evaluate_calls", "evaluate_patient")} == {
        "evaluate_baselines": 2,
        "evaluate_calls": 2,
        "evaluate_patient": 2,
    }


def test_dag__a_masked_rehearsal_makes_its_helper_and_brings_it_along(tmp_path):
    privacy = STUDY["privacy"] | {"steps_per_round": 1, "noise": "pooled"}
    study = STUDY | {"privacy": privacy, "protection": {"mode": "masked", "minimum_sites": 2}}
    workspace = Workspace.create(tmp_path / "workspace", COHORT, study)
    profile = ROOT / "profiles/slurm"
    planned = workspace.snakemake("--profile", profile, "--dry-run", "--printshellcmds", "--quiet", "host").stdout
    assert "fedcall helper keygen --name helper --output private/helper/keys" in planned
    assert "--helper results/tiny/helper/helper.json" in planned
    assert "--helper-keys private" in planned
    # On a cluster every job of a masked study has its limits (those with a message do not show them; test_profiles.py).
    limits = re.findall(r"^ +resources: (.+)$", planned, flags=re.MULTILINE)
    assert len(limits) > 30
    assert all(re.search(r"\bmem_mb=\d", limit) and re.search(r"\bruntime=\d", limit) for limit in limits)


def test_dag__a_sealed_rehearsal_makes_its_simulated_machine_and_signs_its_policy(tmp_path):
    study = STUDY | {"protection": {"mode": "sealed", "minimum_sites": 2}}
    workspace = Workspace.create(tmp_path / "workspace", COHORT, study)
    planned = workspace.snakemake("--dry-run", "--printshellcmds", "--quiet", "host").stdout
    assert "fedcall attestation simulate private/enclave --policy results/tiny/enclave_policy.yaml" in planned
    made = planned[planned.index("fedcall study new") :]
    assert "--evidence results/tiny/enclave_policy.yaml" in made[: made.index("--output results/tiny/study.yaml")]
    assert "--enclave simulated:private/enclave" in planned


@needs_openfhe
def test_dag__an_encrypted_rehearsal_holds_the_ceremony_and_lays_the_shares_beside_the_study(tmp_path):
    privacy = STUDY["privacy"] | {"steps_per_round": 1, "noise": "pooled"}
    study = STUDY | {"privacy": privacy, "protection": {"mode": "encrypted", "minimum_sites": 2}}
    workspace = Workspace.create(tmp_path / "workspace", COHORT, study)
    planned = workspace.snakemake("--dry-run", "--printshellcmds", "--quiet", "host").stdout
    for name in ("holder_a", "holder_b"):
        assert f"fedcall encryption keygen --keys private/{name}/keys --ceremony tiny" in planned
        assert (
            f"fedcall encryption partial --sum results/tiny/ceremony/known/sum.bfv --keys private/{name}/keys"
            in planned
        )
    assert planned.count("--holder results/tiny/holder_b/helper.json") == 3  # two reveal, and the key is joined
    made = planned[planned.index("fedcall study new") :]
    assert "--ceremony tiny --exchange results/tiny/ceremony" in made[: made.index("--output results/tiny/study.yaml")]


def test_dag__an_encrypted_study_without_openfhe_stops_before_any_job_and_says_what_to_install(tmp_path, monkeypatch):
    privacy = STUDY["privacy"] | {"steps_per_round": 1, "noise": "pooled"}
    study = STUDY | {"privacy": privacy, "protection": {"mode": "encrypted", "minimum_sites": 2}}
    workspace = Workspace.create(tmp_path / "workspace", COHORT, study)
    monkeypatch.setenv("FEDCALL_ENCRYPTION_PYTHON", str(tmp_path / "none"))
    stopped = workspace.snakemake("--dry-run")
    assert stopped.returncode != 0
    assert "make encryption" in stopped.stdout
    assert "rule" not in stopped.stdout


def test_dag__held_out_patients_judge_where_the_study_says_so(tmp_path):
    study = STUDY | {"evaluation": {"epsilon": 1.0, "regions": ["sim1:2001-3500"]}}
    workspace = Workspace.create(tmp_path / "workspace", COHORT | {"public_holdout": 1}, study)
    jobs = dry_run(workspace)
    assert {name: jobs.get(name) for name in ("judge_models", "upload_judgement", "fetch_verdict")} == {
        "judge_models": 2,
        "upload_judgement": 1,
        "fetch_verdict": 1,
    }
    assert jobs["evaluate_unseen"] == 2 * 3  # first and final model, on one patient of each site and a public person
    assert jobs["prepare_training_patient"] == 8


def test_dag__without_public_people_the_likelihood_caller_is_the_first_model(tmp_path):
    workspace = Workspace.create(tmp_path / "workspace", COHORT | {"public": 0}, STUDY)
    jobs = dry_run(workspace)
    # The evaluation compares the final with the first model, whoever that is.
    assert jobs["call_baseline"] == 4
    assert (jobs["evaluate_baselines"], jobs["evaluate_patient"]) == (2, 2)


def test_dag__nobody_held_out(tmp_path):
    workspace = Workspace.create(tmp_path / "workspace", COHORT | {"holdout": 0}, STUDY)
    jobs = dry_run(workspace)
    assert "call_variants" not in jobs
    assert "evaluation_report" not in jobs
    assert jobs["privacy_report_of_study"] == 1


def test_dag__site_plans_its_own_jobs_only(workspace):
    sites = []
    for name, patients in COHORT["sites"].items():
        identity = create_keys(workspace.path / "private" / name / "keys", name)
        sites.append(Site(name=name, public_key=identity.public_key, node_key=identity.node_key, patients=patients))
    coordinator = create_keys(workspace.path / "coordinator", "coordinator")
    weights = ModelTerms(initial_weights="0" * 64)
    study = Study(**STUDY, sites=tuple(sites), coordinator=coordinator.public_key, model=weights)
    write_signed(workspace.path / "study.json", study, read_signing_key(workspace.path / "coordinator"))
    (workspace.path / "ca.crt").write_text("-----BEGIN CERTIFICATE-----\n")
    site = {
        "study": "study.json",
        "cohort": COHORT,
        "site": "north",
        "aggregator": "aggregator.example.org:8443",
        "ca": "ca.crt",
        "approved_study": study.digest,
    }
    (workspace.path / "config/config.yaml").write_text(yaml.safe_dump(site))
    jobs = dry_run(workspace)
    assert jobs["train_round"] == jobs["fetch_global"] == jobs["upload_update"] == 2
    assert jobs["accept_study"] == jobs["keep_initial_model"] == jobs["privacy_report"] == 1
    assert not {"create_keys", "agree_study", "train_public", "privacy_report_of_study"} & set(jobs)
    commands = workspace.snakemake("--dry-run", "--printshellcmds").stdout
    assert "--aggregator aggregator.example.org:8443 --ca ca.crt" in commands
    assert "--rehearsal" not in commands
    assert "south" not in "".join(re.findall(r"fedcall (?:fetch|upload|train-round).*", commands))

    carried = {key: value for key, value in site.items() if key not in ("aggregator", "ca")} | {"handover": "carried"}
    (workspace.path / "config/config.yaml").write_text(yaml.safe_dump(carried))
    commands = workspace.snakemake("--dry-run", "--printshellcmds").stdout
    exchanges = re.findall(r"fedcall (?:fetch|upload) .*", commands)
    assert exchanges
    assert all("--handover carried" in exchange and "--ca" not in exchange for exchange in exchanges)

    carried["drop"] = carried.pop("handover")
    (workspace.path / "carried").mkdir()
    (workspace.path / "config/config.yaml").write_text(yaml.safe_dump(carried))
    commands = workspace.snakemake("--dry-run", "--printshellcmds").stdout
    exchanges = re.findall(r"fedcall (?:fetch|upload) .*", commands)
    assert exchanges
    assert all("--drop carried" in exchange and "--ca" not in exchange for exchange in exchanges)


def test_dag__one_round_waits_for_all_receipts_of_the_last(workspace):
    target = "results/tiny/north/rounds/2/global.safetensors"
    jobs = dry_run(workspace, "--", target)
    assert jobs["train_round"] == jobs["upload_update"] == 1
    assert jobs["fetch_global"] == 2


def test_dag__sites_of_a_rehearsal_train_together_or_apart(workspace):
    commands = workspace.snakemake("--dry-run", "--printshellcmds").stdout
    together = re.findall(r"fedcall train-round .*", commands)
    assert [(text.count("--site north"), text.count("--site south")) for text in together] == [(1, 1)] * 2
    assert all("--threads 2" in text for text in together)
    for command in ("compare-people", "report privacy"):
        assert re.findall(rf"fedcall {command} .*--site north --site south", commands)
    path = workspace.path / "config/config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"train_together": False}))
    commands = workspace.snakemake("--dry-run", "--printshellcmds").stdout
    apart = re.findall(r"fedcall train-round .*", commands)
    assert sorted((text.count("--site north"), text.count("--site south")) for text in apart) == [
        (0, 1),
        (0, 1),
        (1, 0),
        (1, 0),
    ]
    assert all("--threads 1" in text for text in apart)
    for command in ("compare-people", "report privacy"):
        assert len(re.findall(rf"fedcall {command} .*--site (?:north|south) ", commands)) == 2


def test_dag__reports_use_the_audit_once_there_is_one(workspace):
    def reporting() -> list[str]:
        result = workspace.snakemake("--dry-run", "--printshellcmds", "--", "results/tiny/privacy.html")
        assert result.returncode == 0, result.stdout[-4000:]
        assert "rule audit_privacy:" not in result.stdout
        return [line for line in result.stdout.splitlines() if "fedcall report privacy" in line]

    assert [line.count("--audit") for line in reporting()] == [0, 0]
    audit = workspace.path / "results/tiny/audit.json"
    audit.parent.mkdir(parents=True)
    audit.touch()
    assert [line.count("--audit results/tiny/audit.json ") for line in reporting()] == [1, 1]


def test_dag__configuration_of_real_people(shared_data):
    workspace = Workspace(ROOT)
    result = workspace.snakemake(
        "--dry-run", "--quiet", "rules", "reason", "--nolock", "--configfile", "config/ceu.yaml", "--forceall"
    )
    assert result.returncode == 0, result.stdout[-4000:]
    jobs = planned(result.stdout)
    assert jobs["prepare_training_patient"] == 30
    assert jobs["call_variants"] == 8


@pytest.mark.slow
@pytest.mark.parametrize(("sites", "rounds"), [(50, 100), (3, 1000)])
def test_dag__large_studies_plan(tmp_path, sites, rounds):
    """Plan what grows with sites, not with their square, and a chain deeper than Python's recursion limit."""
    cohort = COHORT | {"sites": {f"site{index}": 1 for index in range(sites)}, "holdout": 0, "public": 0}
    workspace = Workspace.create(tmp_path / "workspace", cohort, STUDY | {"rounds": rounds})
    result = workspace.snakemake("--dry-run", "--quiet")
    assert result.returncode == 0, result.stdout[-4000:]
