"""Which files are a patient's: found by the workflow's own patterns, and those of nobody else."""

import re
from base64 import b64encode
from pathlib import Path

import pytest

from fedcall.errors import FedcallError
from fedcall.workflow.files_of_patient import FOLDERS, JOBS, find_files
from fedcall.workflow.settled import asks_for_all_rounds, other_rounds, settled_rounds
from fedcall.workflow.withdrawn import withdrawn_names

RULES = Path(__file__).parents[2] / "workflow/rules"
MADE = [
    "results/pilot/north/alignments/p1.bam",
    "results/pilot/north/alignments/.x7_ab.p1.bam",
    "results/pilot/north/examples/p1.safetensors",
    "results/pilot/north/examples/thinned-50/p1.safetensors",
    "results/pilot/north/own_model.safetensors",  # fitted to this patient, among others
    "results/pilot/north/examples/p1.shards/2-of-9.safetensors",
    "results/earlier/north/calls/p1.vcf.gz.tbi",
    "results/earlier/evaluation.html",
    "results/earlier/north/allele_counts.tsv",
    "logs/extract_pileup/pilot.north.p1.log",
    "logs/extract_thinned_pileup/pilot.north.50.p1.log",
    "logs/extract_pileup_shard/pilot.north.p1.2-of-9.log",
    "benchmarks/call_baseline/pilot.north.likelihood.p1.tsv",
]
OTHERS = [
    "results/pilot/north/alignments/p10.bam",
    "results/pilot/north/examples/p2.safetensors",
    "results/pilot/evaluation.html",  # nobody of this study is held out and withdrawn
    "results/pilot/north/rounds/1/update.safetensors",
    "results/pilot/south/examples/p1.safetensors",
    "results/pilot/south/own_model.safetensors",
    "logs/extract_pileup/pilot.north.p10.log",
    "logs/train_round/pilot.north.1.log",
    "data/p1.bam",
]


def test_find_files__all_of_the_patient_and_none_of_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in MADE + OTHERS:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("nobody")
    record = Path(".snakemake/metadata") / b64encode(MADE[0].encode()).decode()
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    Path("logs/train_round/pilot.north.1.log").write_text("patients p1, p2")
    Path("logs/extract_pileup/pilot.north.p10.log").write_text("p10 xp1 p1-2")
    found = find_files("p1", "p1", ["north"])
    assert {str(path) for path in found.made} == {*MADE, str(record)}
    assert [str(path) for path in found.folders] == ["results/pilot/north/examples/p1.shards"]
    assert [str(path) for path in found.named] == [
        "results/pilot/south/examples/p1.safetensors",
        "logs/train_round/pilot.north.1.log",
    ]


def test_jobs__are_those_of_the_rules():
    """Every rule with jobs of one patient is known, with the place of the patient's name."""
    places = {}
    for path in RULES.glob("*.smk"):
        for rule, name in re.findall(r'"logs/(\w+)/([^"]*)\.log"', path.read_text()):
            if "{patient}" in name:
                places[rule] = name.split(".").index("{patient}")
    assert places == JOBS
    patterns = "".join(path.read_text() for path in RULES.glob("*.smk"))
    folders = set(
        re.findall(r"\{(?:wildcards\.)?(?:site|patient\.site)\}/([\w-]+)/[^\"\s]*\{(?:wildcards\.)?patient", patterns)
    )
    assert folders <= set(FOLDERS)
    assert {"alignments", "examples", "labels"} <= folders


def test_settled_rounds__all_files_of_all_sites(tmp_path):
    for number in (1, 2, 3):
        for site in ("a", "b"):
            folder = tmp_path / site / "rounds" / str(number)
            folder.mkdir(parents=True)
            for name in ("global.safetensors", "update.safetensors", "claim.json", "receipt.json"):
                (folder / name).touch()
    (tmp_path / "b/rounds/2/claim.json").unlink()
    assert settled_rounds(tmp_path, ("a", "b"), range(1, 5)) == [1, 3]
    pattern = re.compile(other_rounds([1, 3]))
    assert [number for number in (1, 2, 3, 4, 10, 13, 31) if pattern.fullmatch(str(number))] == [2, 4, 10, 13, 31]


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["snakemake", "--cores", "1", "--configfile", "/data/rounds/config.yaml"], False),
        (["snakemake", "--dry-run"], False),
        (["snakemake", "--reporter", "privacy"], True),
        (["snakemake", "--report"], True),
        (["snakemake", "-F"], True),
        (["snakemake", "results/s/a/rounds/1/claim.json"], True),
    ],
)
def test_asks_for_all_rounds(arguments, answer):
    assert asks_for_all_rounds(arguments) is answer


def test_withdrawn_names__an_unreadable_record_stops_the_run(tmp_path):
    """Whom it names must not be trained on, and nobody can tell who that is."""
    (tmp_path / "p1.json").write_text('{"patient": "p1", "person": "MRN 7"}')
    assert withdrawn_names([tmp_path, tmp_path / "none"]) == {"p1", "MRN 7"}
    (tmp_path / "p2.json").write_text("{")
    with pytest.raises(FedcallError, match=r"p2\.json: not a readable record of a withdrawal"):
        withdrawn_names([tmp_path])
