"""`fedcall study`, through the shell."""

import json

import numpy as np
import pytest

from fedcall.keys import create_keys
from fedcall.study.terms import read_study
from fedcall.weights import read_weights, write_weights
from forked import run_forked
from made_firmware import made_launch

TERMS = "name: tiny\nrounds: 2\nprivacy:\n  delta: 2.5e-3\n  max_epsilon: 4.0\n"


def _fedcall(*arguments):
    return run_forked("fedcall", *arguments)


@pytest.fixture
def folder(tmp_path):
    for name in ("north", "south", "coordinator"):
        create_keys(tmp_path / name, name)
    write_weights(tmp_path / "initial.safetensors", {"head.weight": np.ones((3, 4), np.float32)}, {})
    (tmp_path / "terms.yaml").write_text(TERMS)
    return tmp_path


def _new(folder, *sites, more=()):
    return _fedcall(
        *("study", "new", "--terms", folder / "terms.yaml", "--initial", folder / "initial.safetensors"),
        *("--coordinator", folder / "coordinator" / "site.json"),
        *(word for site in sites for word in ("--site", site)),
        *("--output", folder / "full.yaml"),
        *more,
    )


def _sign(folder, keys="coordinator"):
    return _fedcall(
        *("study", "sign", "--study", folder / "full.yaml", "--keys", folder / keys),
        *("--output", folder / "study.json"),
    )


def test_study__from_terms_to_an_approved_digest(folder):
    assert _new(folder, f"{folder}/north/site.json=40", f"{folder}/south/site.json=25").returncode == 0
    assert "patients: 40" in (folder / "full.yaml").read_text()
    assert _sign(folder).returncode == 0
    done = _fedcall("study", "check", "--study", folder / "study.json", "--json")
    summary = json.loads(done.stdout)
    study = read_study(folder / "study.json")
    assert summary["digest"] == study.digest
    assert summary["initial_weights"] == read_weights(folder / "initial.safetensors").digest
    assert [(site.name, site.patients) for site in study.sites] == [("north", 40), ("south", 25)]
    assert study.digest in _fedcall("study", "check", "--study", folder / "study.json").stdout


def test_promise_5__delta_times_the_patients_is_refused_in_one_line(folder):
    done = _new(folder, f"{folder}/north/site.json=100")
    assert done.returncode == 2
    assert "privacy.delta 0.0025 times the 100 patients of site" in done.stderr
    assert "north" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (folder / "full.yaml").exists()


@pytest.mark.parametrize("site", ["north", "north/site.json", "north/site.json=0", "north/site.json=many"])
def test_study_new__badly_written_site(folder, site):
    done = _new(folder, site)
    assert done.returncode == 2
    assert "SITE.JSON=PATIENTS" in done.stderr


def test_study_new__site_twice(folder):
    done = _new(folder, f"{folder}/north/site.json=40", f"{folder}/north/site.json=40")
    assert done.returncode == 2
    assert "'north' is listed 2 times" in done.stderr


@pytest.mark.parametrize(
    ("line", "word"),
    [("aggregation: {strategy: fedyogi}\n", "fedyogi"), ("privcy: {}\n", "privcy"), ("rounds: 0\n", "rounds")],
)
def test_study_new__terms_that_are_not_allowed(folder, line, word):
    (folder / "terms.yaml").write_text(TERMS.replace("rounds: 2\n", "") + line)
    done = _new(folder, f"{folder}/north/site.json=40")
    assert done.returncode == 2
    assert word in done.stderr
    assert "terms.yaml" in done.stderr


def test_study_sign__keys_of_somebody_else(folder):
    _new(folder, f"{folder}/north/site.json=40")
    done = _sign(folder, keys="north")
    assert done.returncode == 2
    assert not (folder / "study.json").exists()


def test_study_check__changed_after_signing(folder):
    _new(folder, f"{folder}/north/site.json=40")
    _sign(folder)
    path = folder / "study.json"
    path.write_text(path.read_text().replace('"patients":40', '"patients":39'))
    done = _fedcall("study", "check", "--study", path)
    assert done.returncode == 2
    assert "signature" in done.stderr


def test_study_new__the_policy_of_a_sealed_study_names_the_image_it_is_started_with(folder):
    (folder / "terms.yaml").write_text(TERMS + "protection: {mode: sealed, minimum_sites: 2}\n")
    (folder / "policy.yaml").write_text("snp: {tcb_floors: {Genoa: {bootloader: 10, snp: 25, microcode: 84}}}\n")
    launch = made_launch(folder)
    more = ("--measure", launch, "--evidence", folder / "policy.yaml")
    sites = [f"{folder}/{name}/site.json=40" for name in ("north", "south")]
    done = _new(folder, *sites, more=more)
    assert done.returncode == 0, done.stderr
    assert _sign(folder).returncode == 0
    printed = _fedcall("attestation", "measure", launch).stdout.split()
    assert len(printed) == 2
    assert list(read_study(folder / "study.json").protection.evidence.snp.measurements) == printed
    assert printed[0][:16] in _fedcall("study", "check", "--study", folder / "study.json").stdout
    done = _new(folder, *sites, more=more[:2])
    assert (done.returncode, "--measure: the measurement goes into a policy" in done.stderr) == (2, True)
