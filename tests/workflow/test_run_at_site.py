"""What is refused at a hospital before any job starts."""

import sys
from pathlib import Path

import pytest
import yaml

from fedcall.documents import write_signed
from fedcall.errors import FedcallError
from fedcall.keys import create_keys, read_signing_key
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.terms import ModelTerms, Site, Study, read_study
from fedcall.workflow.run import load_run


@pytest.fixture
def hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Return a good configuration of the hospital 'north', in whose folder the test runs."""
    monkeypatch.chdir(tmp_path)
    north, coordinator = create_keys(Path("private/north/keys"), "north"), create_keys(Path("c"), "coordinator")
    study = Study(
        name="tiny",
        coordinator=coordinator.public_key,
        sites=(Site(name="north", public_key=north.public_key, node_key=north.node_key, patients=3),),
        model=ModelTerms(initial_weights="0" * 64),
        privacy=PrivacyTerms(delta=0.01),
    )
    write_signed(Path("study.json"), study, read_signing_key(Path("c")))
    Path("ca.crt").write_text("-----BEGIN CERTIFICATE-----\n")
    return {
        "study": "study.json",
        "approved_study": study.digest,
        "site": "north",
        "aggregator": "aggregator.example.org:443",
        "ca": "ca.crt",
        "cohort": {"sites": {"north": 3}, "holdout": 1, "public": 0},
    }


def load(config: dict[str, object]):
    path = Path("config.yaml")
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return load_run(path)


def test_load_run__at_a_site(hospital):
    run = load(hospital)
    assert (run.sites, run.is_rehearsal, len(run.training["north"])) == (("north",), False, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"approved_study": "1" * 64}, r"config\.yaml:2: approved_study is 1111.*, but study\.json has digest"),
        ({"site": "south"}, r"config\.yaml:3: site 'south' is not part of study 'tiny' \(sites: north\)"),
        ({"aggregator": "example.org"}, r"config\.yaml:4: aggregator 'example\.org': HOST:PORT expected"),
        (
            {"ca": "none.crt"},
            r"config\.yaml:5: ca: no such file: none\.crt \(relative paths .* start at the working directory\)",
        ),
        ({"ca": "study.json"}, r"config\.yaml:5: ca: study\.json is no certificate \(PEM\)"),
        ({"cohort": {"sites": {"north": 4}}}, r"4 training patients, but site 'north' declared 3 in study 'tiny'"),
        ({"site_key": "c"}, r"c holds other keys than study 'tiny' registers for site 'north'"),
        ({"site_key": "elsewhere"}, r"no keys in elsewhere; make them with 'fedcall site keygen --name north"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_load_run__at_a_site_refuses(hospital, change, message):
    with pytest.raises(FedcallError, match=message):
        load(hospital | change)


def test_load_run__another_study_of_the_same_name(hospital):
    """A study signed again with more rounds has another digest; its results must not replace those of the first."""
    load(hospital)
    folder = Path("results/tiny")
    folder.mkdir(parents=True)
    (folder / "study.json").write_bytes(Path("study.json").read_bytes())
    load(hospital)
    study = read_study(Path("study.json")).model_copy(update={"rounds": 5})
    write_signed(Path("study.json"), study, read_signing_key(Path("c")))
    with pytest.raises(FedcallError, match=r"results/tiny belongs to another study of the same name"):
        load(hospital | {"approved_study": study.digest})
    folder.rename("results/tiny-1")
    load(hospital | {"approved_study": study.digest})


def test_load_run__at_a_site_with_a_supernode_of_its_own(hospital):
    carried = {key: value for key, value in hospital.items() if key not in ("aggregator", "ca")}
    assert load(carried | {"handover": "carried"}).config.handover == Path("carried")
    with pytest.raises(FedcallError, match="so aggregator, ca must be, too"):
        load(carried)
    with pytest.raises(FedcallError, match="the SuperNode knows 'aggregator' and 'ca'; leave them out"):
        load(hospital | {"handover": "carried"})


def test_load_run__at_a_site_that_opens_no_connection(hospital):
    carried = {key: value for key, value in hospital.items() if key not in ("aggregator", "ca")}
    with pytest.raises(FedcallError, match=r"drop: no such folder: carried .*make it, or mount it"):
        load(carried | {"drop": "carried"})
    Path("carried").mkdir()
    assert load(carried | {"drop": "carried"}).config.drop == Path("carried")
    for extra in ({"handover": "carried"}, {"aggregator": "host:1", "ca": "ca.crt"}):
        with pytest.raises(FedcallError, match=r"leave out 'aggregator', 'ca', 'handover' and 'syft'|leave them out"):
            load(carried | {"drop": "carried"} | extra)


def test_load_run__at_a_site_with_pysyft(hospital, monkeypatch):
    carried = {key: value for key, value in hospital.items() if key not in ("aggregator", "ca")}
    syft = {"folder": "SyftBox", "datasite": "{site}@hospital.example"}
    with pytest.raises(FedcallError, match="leave out 'aggregator', 'ca' and 'handover'"):
        load(hospital | {"syft": syft})
    monkeypatch.setitem(sys.modules, "syft_job", None)
    with pytest.raises(FedcallError, match=r"PySyft is not installed; pip install 'fedcall\[syft\]'"):
        load(carried | {"syft": syft})


def test_load_run__a_hospital_may_have_fewer_patients_than_it_declared(hospital):
    assert len(load(hospital | {"cohort": {"sites": {"north": 2}, "public": 0}}).training["north"]) == 2


@pytest.mark.parametrize("name", ["secret", "signing.key", "node.key"])
def test_load_run__a_key_that_others_may_read_is_found_before_any_job(hospital, name):
    Path("private/north/keys", name).chmod(0o640)
    with pytest.raises(FedcallError, match=rf"{name}: mode 0640 lets others read it; run 'chmod 600 "):
        load(hospital)
