"""Who the people of a run are: promise 2 (people, not files), 3 (the hospital's limit) and 8 (rehearsals)."""

import shutil

import pysam
import pytest
import yaml

from fedcall.errors import FedcallError, PrivacyRefusal
from fedcall.genomics.fingerprints import reads_fingerprint
from fedcall.keys import create_keys, read_secret
from fedcall.privacy.events import Event
from fedcall.privacy.ledger.ledger import Ledger, Member, ReleaseRequest
from fedcall.workflow.people import check_data, people_of_sheet
from fedcall.workflow.run import load_run

EVENT = Event(unit="patient", mechanism="gaussian", noise_multiplier=2.0, sampling_rate=1.0, steps=4)
HEADER = ("patient", "person", "site", "alignments", "truth", "regions", "split", "private")


def write_bam(path, name, sample="x"):
    header = pysam.AlignmentHeader.from_dict(
        {"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": [{"SN": "1", "LN": 1000}], "RG": [{"ID": "g", "SM": sample}]}
    )
    with pysam.AlignmentFile(str(path), "wb", header=header) as handle:
        for number in range(20):
            read = pysam.AlignedSegment(header)
            read.query_name, read.reference_id, read.reference_start = f"{name}.{number}", 0, 10 * number
            read.query_sequence, read.cigarstring, read.mapping_quality = "ACGT" * 10, "40M", 60
            handle.write(read)
    pysam.index(str(path))


class Folder:
    def __init__(self, path):
        self.path = path
        (path / "genome.fa").write_text(">1\n" + "ACGT" * 250 + "\n")
        pysam.faidx(str(path / "genome.fa"))
        for name in ("a", "b", "c"):
            write_bam(path / f"{name}.bam", name)
        (path / "study.yaml").write_text(yaml.safe_dump({"name": "trial", "privacy": {"delta": 0.01}}))

    def load(self, *rows, **choices):
        lines = ["\t".join(row) for row in (HEADER, *rows)]
        (self.path / "samples.tsv").write_text("\n".join(lines) + "\n")
        content = {"study": "study.yaml", "samples": "samples.tsv", "reference": "genome.fa", **choices}
        (self.path / "config.yaml").write_text(yaml.safe_dump(content))
        run = load_run(self.path / "config.yaml")
        check_data(run)
        return run

    def charge(self, *members):
        keys = self.path / "private/north/keys"
        create_keys(keys, "north")
        with Ledger.open(self.path / "private/north/ledger.sqlite", read_secret(keys)) as ledger:
            ledger.reserve(ReleaseRequest("a" * 64, "north", 1, EVENT, 1e-3, 8.0, members, "f" * 64))


def row(patient, reads, split="train", private="no", person="", site="north"):
    return (patient, person, site, f"{reads}.bam", "", "", split, private)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Folder(tmp_path)


def test_promise_2__public_and_private_is_refused(folder):
    with pytest.raises(FedcallError, match=r"samples\.tsv:3: .*split 'public' is for people whose data is public"):
        folder.load(row("p", "a"), row("q", "b", "public", "yes", site="public"))


def test_promise_2__one_bam_in_three_splits_is_refused(folder):
    for split, private in (("holdout", "no"), ("public", "no"), ("train", "no")):
        with pytest.raises(FedcallError, match=r"have the same reads"):
            folder.load(row("p", "a"), row("q", "a", split, private))


def test_promise_2__links_copies_and_other_headers_are_the_same_data(folder):
    (folder.path / "link.bam").symlink_to("a.bam")
    shutil.copy(folder.path / "a.bam.bai", folder.path / "link.bam.bai")
    write_bam(folder.path / "headed.bam", "a", sample="somebody else")
    for name in ("copy",):
        shutil.copy(folder.path / "a.bam", folder.path / f"{name}.bam")
        shutil.copy(folder.path / "a.bam.bai", folder.path / f"{name}.bam.bai")
    for reads in ("link", "copy", "headed"):
        with pytest.raises(FedcallError, match=r"have the same reads"):
            folder.load(row("p", "a"), row("q", reads, "holdout"))
    folder.load(row("p", "a"), row("q", "b", "holdout"))


def test_promise_2__a_person_has_one_row_but_a_public_one_may_have_parts(folder):
    with pytest.raises(FedcallError, match="'p' and 'q' are one person \\('Ann'\\)"):
        folder.load(row("p", "a", person="Ann"), row("q", "b", "holdout", person="Ann"))
    folder.load(
        row("t", "c"),
        row("p", "a", "public", person="NA1", site="public"),
        row("q", "a", "holdout", person="NA1", site="public"),
    )


def test_promise_2__the_ledger_is_asked_before_any_job(folder):
    reads = reads_fingerprint(folder.path / "a.bam", None, folder.path / "genome.fa")
    assert len(reads) == 1
    folder.charge(Member("ann", "Ann", reads))
    with pytest.raises(PrivacyRefusal, match=r"patient 'x': .* knows this data as another person's"):
        folder.load(row("x", "a", private="yes"), charge_for_good=True)
    for public in (row("Ann", "b", "public", site="public"), row("x", "a", "public", site="public")):
        with pytest.raises(PrivacyRefusal, match="has charged this person, or this data, as private"):
            folder.load(row("t", "c"), public)
    folder.load(row("ann", "a", private="yes", person="Ann"), charge_for_good=True)


def test_promise_3__a_broken_limit_is_found_before_any_job(folder):
    (folder.path / "private/north").mkdir(parents=True)
    (folder.path / "private/north/limit.yaml").write_text("epsilon: -1\ndelta: 0.001\n")
    with pytest.raises(FedcallError, match=r"limit\.yaml:1: epsilon"):
        folder.load(row("p", "a"))


def test_promise_8__a_rehearsal_refuses_private_people(folder):
    with pytest.raises(PrivacyRefusal, match=r"2 of 3 are private \('p' first\).*charge_for_good: true"):
        folder.load(row("p", "a", private="yes"), row("q", "b", "holdout", "yes"), row("r", "c"))


def test_promise_8__or_charges_them_for_good_and_says_so_first(folder):
    run = folder.load(row("p", "a", private="yes"), row("r", "c"), charge_for_good=True)
    assert "charges 1 private people for good, in private/north/ledger.sqlite" in run.charges_for_good
    assert folder.load(row("p", "a"), charge_for_good=True).charges_for_good is None


def test_people_of_sheet__names_people_and_their_data(folder):
    folder.load(row("p", "a", person="Ann"), row("q", "b"), row("r", "c", "holdout"))
    (folder.path / "b.bam").unlink()
    people = people_of_sheet(folder.path / "samples.tsv", "north", folder.path / "genome.fa")
    assert {name: (one.person, one.is_private, len(one.fingerprints)) for name, one in people.items()} == {
        "p": ("Ann", False, 1),
        "q": ("q", False, 0),
    }
