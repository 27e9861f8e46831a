"""Words in other people's files, through the whole path: they are kept as data, and never shown as they are.

Whatever a name, a description or a comment holds: a command ends well or with one line, and no page, JSON, table or
line of a terminal has a character of it that is not printable, or a tag.
"""

import gzip
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fedcall.documents import write_signed
from fedcall.keys import create_keys, read_signing_key
from fedcall.model.caller import build_model, save_model
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.terms import ModelTerms, Site, Study
from hostile_files import WORDS, HostileFiles, write_binary_forms, write_hostile_files
from in_process import run_in_process

PATIENT = "north-001"
PRINTED = {"\n", "\t", "\u00a0", "\u202f"}
"""What is not printable and ours: ends of lines and cells, and what templates put between words."""


@pytest.fixture
def fedcall(capsys, monkeypatch):
    def run(*arguments: object) -> tuple[int, str]:
        code, out, err = run_in_process(monkeypatch, capsys, *arguments)
        said = out + err
        assert {letter for letter in said if not letter.isprintable()} <= {"\n"}, (arguments[0], said[:500])
        assert max(map(len, said.splitlines() or [""])) <= 4_000, arguments[0]
        return code, said

    return run


def _records(path: Path) -> bytes:
    """Return the records of a file of calls, or a file's bytes."""
    content = path.read_bytes()
    return gzip.decompress(content).rpartition(b"\n#CHROM")[2] if path.suffix == ".gz" else content


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)


def steps(files: HostileFiles) -> list[tuple[object, ...]]:
    """Return the commands of the whole path, each with what the ones before it made."""
    folder = files.folder
    base = ("--reference", files.reference)
    where = (*base, "--regions", files.regions)
    reads, labels = ("--alignments", folder / "reads.bam"), folder / "labels.vcf.gz"
    ours, theirs, collected = (folder / f"{name}.vcf.gz" for name in ("ours", "bcftools", "collected"))
    name = WORDS.decode("utf-8", "surrogateescape").replace("=", "-")
    return [
        ("normalise-alignments", "--alignments", folder / "reads.sam", *where, "--output", folder / "reads.bam"),
        ("normalise-labels", "--truth", folder / "truth.vcf", *where, "--output", labels),
        ("confident-regions", "--gvcf", folder / "truth.g.vcf", *base, "--output", folder / "sure.bed"),
        ("recalibrate", *reads, *base, "--output", folder / "table.json"),
        ("pileup", *reads, *where, "--truth", labels, "--output", folder / "examples.safetensors"),
        ("call", *reads, *where, "--model", folder / "model.safetensors", "--output", ours),
        ("call-classical", *reads, *where, "--output", theirs),
        (
            *("callers", "collect", "--caller", "gatk", "--calls", folder / "truth.vcf", *base, "--sample", PATIENT),
            *("--version-file", folder / "truth.vcf", "--image", name, "--output", collected),
        ),
        ("concordance", "--truth", labels, "--calls", ours, *where, "--json", folder / f"{PATIENT}.json"),
        ("concordance", "--truth", folder / "truth.vcf", "--calls", theirs, *where, "--json", folder / "theirs.json"),
        (
            *(
                "errors",
                "--truth",
                folder / "truth.vcf",
                "--calls",
                ours,
                *where,
                *reads,
                "--against",
                f"gatk={collected}",
            ),
            *("--output", folder / "errors.json", "--agreement", folder / "agreement.json"),
        ),
        ("allele-counts", labels, "--output", folder / "counts.tsv"),
        (
            *("compare", "--truth", folder / "truth.vcf", "--calls", f"{name}={ours}", "--calls", f"theirs={theirs}"),
            *(*where, *reads, "--json", folder / "compared.json", "--html", folder / "compared.html"),
        ),
    ]


def reports(files: HostileFiles) -> list[tuple[object, ...]]:
    """Return the commands that report on what `steps` made: the evaluation of a study, from one patient's figures."""
    folder, keys = files.folder, files.folder / "keys"
    north = create_keys(keys, "north")
    study = Study(
        name="tiny",
        coordinator=north.public_key,
        sites=(Site(name="north", public_key=north.public_key, node_key=north.node_key, patients=1),),
        model=ModelTerms(initial_weights="0" * 64),
        privacy=PrivacyTerms(delta=0.01),
    )
    write_signed(folder / "study.json", study, read_signing_key(keys))
    figures = [folder / f"north/concordance/{caller}/{PATIENT}.json" for caller in ("final", "initial", "bcftools")]
    for path, source in zip(figures, (f"{PATIENT}.json", "theirs.json", "theirs.json"), strict=True):
        path.parent.mkdir(parents=True)
        path.write_bytes((folder / source).read_bytes())
    more = []
    for kind in ("errors", "agreement"):
        path = folder / "north" / kind / f"{PATIENT}.json"
        path.parent.mkdir()
        path.write_bytes((folder / f"{kind}.json").read_bytes())
        more += [f"--{kind}", path]
    told = ("--html", folder / "evaluation.html", "--json", folder / "evaluation.json")
    return [("report", "evaluation", "--study", folder / "study.json", *told, *more, *figures)]


def steps_of_binary_forms(files: HostileFiles) -> list[tuple[object, ...]]:
    """Return commands that read the same words from a CRAM and a BCF."""
    folder = files.folder
    reads, truth = write_binary_forms(files)
    where = ("--reference", files.reference, "--regions", files.regions)
    return [
        ("normalise-alignments", "--alignments", reads, *where, "--output", folder / "cram.bam"),
        ("normalise-labels", "--truth", truth, *where, "--output", folder / "bcf.vcf.gz"),
        ("call-classical", "--alignments", folder / "cram.bam", *where, "--output", folder / "cram.vcf.gz"),
        ("concordance", "--truth", truth, "--calls", folder / "cram.vcf.gz", *where, "--json", folder / "bcf.json"),
    ]


@pytest.mark.parametrize("contig", [b"chr1", b"<img/src=x/onerror=document.title='owned'>%s{{7*7}}", b"c" * 5_000])
def test_hostile_words__are_kept_as_data_and_never_shown_as_they_are(simulated_cohort, tmp_path, fedcall, contig):
    files = write_hostile_files(simulated_cohort, PATIENT, contig, tmp_path / "patient")
    save_model(files.folder / "model.safetensors", build_model())
    for listed in (steps, reports, steps_of_binary_forms):
        for step in listed(files):
            code, said = fedcall(*step)
            assert code == 0, (step[0], said[-1_000:])
    for name in ("cram.vcf.gz", "bcf.json"):  # of the same reads and truth, so the same
        same = {"cram.vcf.gz": "bcftools.vcf.gz", "bcf.json": "theirs.json"}[name]
        one, other = (_records(files.folder / path) for path in (name, same))
        assert one == other, name
    for path in files.folder.iterdir():
        if path.suffix in {".json", ".html", ".tsv", ".bed"} and path != files.regions:
            text = path.read_text("utf-8")
            assert {letter for letter in text if not letter.isprintable()} <= PRINTED, path.name
            if path.suffix == ".html":
                parser = _Tags()
                parser.feed(text)
                assert parser.found.count("script") <= 1
                assert "img" not in parser.found
    # Where a format keeps a name, it is the name: nothing was renamed in silence.
    sample = WORDS.replace(b"\r", b"")
    header = gzip.decompress((files.folder / "labels.vcf.gz").read_bytes()).partition(b"\n" + contig)[0]
    assert header.endswith(b"\t" + sample)
    assert b"##contig=<ID=" + contig + b"," in header


@pytest.mark.parametrize(
    ("contig", "shown"),
    [
        ("chr1\u202egnissim".encode(), r"'chr1\u202egnissim'"),
        (b"chr1\x1b]0;owned\x07", r"'chr1\x1b]0;owned\x07'"),
        (b"chr1\xc2\x85x", r"'chr1\x85x'"),
        (b"chr\xe4", r"'chr\udce4'"),
    ],
)
def test_hostile_contigs__that_nobody_could_show_are_refused_before_any_work(tmp_path, fedcall, contig, shown):
    reference = tmp_path / "reference.fa"
    reference.write_bytes(b">" + contig + b"\nACGTACGT\n")
    (tmp_path / "reference.fa.fai").write_bytes(contig + b"\t8\t%d\t8\t9\n" % (len(contig) + 2))
    (tmp_path / "reads.sam").write_bytes(b"@SQ\tSN:" + contig + b"\tLN:8\n")
    (tmp_path / "truth.vcf").write_bytes(b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
    for step in (
        ("normalise-alignments", "--alignments", tmp_path / "reads.sam", "--output", tmp_path / "o.bam"),
        ("normalise-labels", "--truth", tmp_path / "truth.vcf", "--output", tmp_path / "o.vcf.gz"),
        ("call-classical", "--alignments", tmp_path / "reads.sam", "--output", tmp_path / "o.vcf.gz"),
    ):
        code, said = fedcall(*step, "--reference", reference)
        assert code == 2
        assert said.count("\n") == 1
        assert f"contig {shown} has characters in its name" in said
        assert "rename it there" in said
    assert {path.name for path in tmp_path.iterdir()} == {"reference.fa", "reference.fa.fai", "reads.sam", "truth.vcf"}


def test_reference_names_in_messages__leave_room_for_what_to_do(tmp_path, fedcall):
    reference = tmp_path / "reference.fa"
    reference.write_bytes(b">" + b"c" * 9_000 + b"\nACGTACGT\n")
    (tmp_path / "reference.fa.fai").write_bytes(b"c" * 9_000 + b"\t8\t9002\t8\t9\n")
    (tmp_path / "reads.sam").write_bytes(b"@SQ\tSN:" + b"d" * 9_000 + b"\tLN:8\n")
    code, said = fedcall(
        *("normalise-alignments", "--alignments", tmp_path / "reads.sam", "--output", tmp_path / "o.bam"),
        *("--reference", reference),
    )
    assert code == 2
    assert "no contig in common" in said
    assert len(said) < 500 + 2 * len(str(tmp_path))


CELL = WORDS.replace(b"\xe4", b"").replace(b"\r", b"").decode()


@pytest.mark.parametrize(
    "column", ["patient", "site", "alignments", "truth", "regions", "split", "sample", "private", "person", "header"]
)
def test_sheet_cells__of_any_words_are_one_line(simulated_cohort, tmp_path, fedcall, monkeypatch, column):
    monkeypatch.chdir(tmp_path)
    row = {
        "patient": PATIENT,
        "site": "north",
        "alignments": str(simulated_cohort / f"{PATIENT}.bam"),
        "truth": str(simulated_cohort / f"{PATIENT}.truth.vcf.gz"),
        "regions": str(simulated_cohort / "regions.bed"),
        "split": "train",
        "sample": PATIENT,
        "private": "no",
        "person": PATIENT,
    }
    row |= {column: CELL} if column in row else {CELL: "anything"}
    Path("samples.tsv").write_text("\t".join(row) + "\n" + "\t".join(row.values()) + "\n", "utf-8")
    Path("study.yaml").write_text("{name: tiny, rounds: 1, privacy: {noise_multiplier: 2.0, delta: 0.01}}")
    reference = simulated_cohort / "reference.fa"
    Path("config.yaml").write_text(f"{{study: study.yaml, samples: samples.tsv, reference: {reference}}}")
    code, said = fedcall("check", "config.yaml")
    assert code == 2
    assert said.startswith("fedcall: ")
    assert said.count("\n") == 1
