"""Contigs over 512 Mb: no .bai and no .tbi reaches so far, so that everything on them has a .csi."""

from pathlib import Path

import pytest
import yaml

from fedcall.callers.collecting import CallerVersion, collect_calls
from fedcall.errors import FedcallError
from fedcall.genomics.examples import open_examples
from fedcall.genomics.truth.normalise_labels import normalise_labels
from fedcall.model.caller import build_model, save_model
from fedcall.workflow.input_files import check_input_files
from fedcall.workflow.run import load_run
from long_contig import PLACE, LongContig, has_snp, indexes, write_long_contig
from rehearsal_workspace import STUDY, Workspace
from tiny_alignments import Read, write_alignments, write_reference

COLUMNS = ("patient", "site", "alignments", "truth", "regions", "split", "private")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> LongContig:
    return write_long_contig(tmp_path_factory.mktemp("long"))


def write_run(folder: Path, files: LongContig, *more: tuple[str, ...], **config: object) -> Path:
    """Write a run of one training and one held-out patient with the same files."""
    row = ("north", str(files.alignments), str(files.truth), str(files.regions))
    rows = [("P1", *row, "train", "no"), *more]
    (folder / "s.tsv").write_text("".join("\t".join(cells) + "\n" for cells in (COLUMNS, *rows)))
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
    path = folder / "config.yaml"
    chosen = {"study": "study.yaml", "samples": "s.tsv", "reference": str(files.reference)}
    path.write_text(yaml.safe_dump(chosen | config))
    return path


def test_workflow__on_a_contig_over_512_mb_makes_and_uses_csi(files: LongContig, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    write_run(tmp_path, files)
    folder = "results/tiny/north"
    targets = [f"{folder}/examples/P1.safetensors", f"{folder}/labels/P1.vcf.gz.csi"]
    made = workspace.snakemake("--configfile", "config.yaml", "--quiet", "rules", "reason", "--", *targets)
    assert made.returncode == 0, made.stdout[-4000:]
    assert indexes(tmp_path / folder) == {".csi"}
    examples = open_examples(tmp_path / targets[0])
    assert (examples.position.tolist(), examples.labels.tolist()) == ([PLACE], [2])
    planned = workspace.snakemake("--configfile", "config.yaml", "--dry-run", f"{folder}/calls/P1.vcf.gz.csi")
    assert planned.returncode == 0, planned.stdout[-4000:]
    assert "rule call_variants" in planned.stdout


def test_call__on_a_contig_over_512_mb_in_shards(files: LongContig, tmp_path: Path) -> None:
    save_model(tmp_path / "model.safetensors", build_model())
    Workspace(tmp_path).fedcall(
        *("call", "--model", "model.safetensors", "--alignments", files.alignments, "--reference", files.reference),
        *("--regions", files.regions, "--shard-size", 700, "--output", "calls.vcf.gz"),
    )
    assert indexes(tmp_path) == {".csi"}
    assert has_snp(tmp_path / "calls.vcf.gz", files.alt)


def test_collected_calls_and_labels__on_a_contig_over_512_mb(files: LongContig, tmp_path: Path) -> None:
    """The contig's length is the reference's to say: a caller's header may keep it to itself."""
    text = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tP1\n"
    (tmp_path / "theirs.vcf").write_text(text)
    (tmp_path / "version.txt").write_text("version:  v1.3.6\n")
    provenance = CallerVersion(tmp_path / "version.txt", None)
    collect_calls("freebayes", tmp_path / "theirs.vcf", files.reference, "P1", tmp_path / "ours.vcf.gz", provenance)
    normalise_labels(tmp_path / "theirs.vcf", files.reference, tmp_path / "labels.vcf.gz")
    assert indexes(tmp_path) == {".csi"}


def test_check__one_run_has_indexes_of_one_kind(
    files: LongContig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_reference(tmp_path, {"c": "ACGTTGCA" * 50})
    short = write_alignments(tmp_path, {"c": 400}, [Read(10, "8M", "GTTGCAAC")])
    check_input_files(load_run(write_run(tmp_path, files)))
    columns = (*COLUMNS, "reference")
    path = write_run(tmp_path, files)
    rows = [
        ("P1", "north", str(files.alignments), str(files.truth), str(files.regions), "train", "no", ""),
        ("P2", "north", str(short), "", "", "holdout", "no", "reference.fa"),
    ]
    (tmp_path / "s.tsv").write_text("".join("\t".join(cells) + "\n" for cells in (columns, *rows)))
    with pytest.raises(FedcallError, match=r"reference\.fa: no contig is longer than .* a run of their own"):
        check_input_files(load_run(path))
    with pytest.raises(FedcallError, match=r"'gatk' writes indexes \.tbi"):
        check_input_files(load_run(write_run(tmp_path, files, callers=["gatk"])))
