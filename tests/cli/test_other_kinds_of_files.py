"""A picture, a folder, an empty or a cut file in place of what a command needs: one line, and no traceback."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedcall.weights import weights_bytes
from tiny_alignments import Read, write_alignments, write_reference

BASES = "ACGTTGCA" * 50
COMMANDS = {
    "model": ("call", "--alignments", "a.bam", "--reference", "reference.fa", "--output", "o.vcf.gz", "--model", "X"),
    "alignments": ("pileup", "--reference", "reference.fa", "--output", "o", "--alignments", "X"),
    "reference": ("pileup", "--alignments", "a.bam", "--output", "o", "--reference", "X"),
    "truth": ("normalise-labels", "--reference", "reference.fa", "--output", "o.vcf.gz", "--truth", "X"),
    "regions": ("pileup", "--alignments", "a.bam", "--reference", "reference.fa", "--output", "o", "--regions", "X"),
    "gvcf": ("confident-regions", "--reference", "reference.fa", "--output", "o.bed", "--gvcf", "X"),
    "reads": ("align", "--reference", "reference.fa", "--sample", "s", "--output", "o.bam", "--reads1", "X"),
    "shards of calls": ("gather", "--output", "o.vcf.gz", "X"),
    "shards of examples": ("gather", "--output", "o.safetensors", "X"),
    "terms": ("train-public", "--output", "o", "--terms", "X"),
    "study": ("study", "check", "--study", "X"),
    "ledger": ("ledger", "show", "--ledger", "X"),
    "configuration": ("check", "X"),
}
CALL_ALL = r"""
import sys
from fedcall import cli
for line in sys.stdin:
    name, *arguments = line.rstrip("\n").split("\t")
    sys.argv = ["fedcall", *arguments]
    try:
        cli.main()
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException as error:
        code = f"{type(error).__name__}: {error}"
    print(f"{name}\t{code}", flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_reference(tmp_path, {"c": BASES})
    write_alignments(tmp_path, {"c": 400}, [Read(10, "8M", "GTTGCAAC")], "a.bam")
    model = weights_bytes({"w": np.ones((4, 4), np.float32)}, {})
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\0" * 9)
    (tmp_path / "cut.safetensors").write_bytes(model[: len(model) // 2])
    (tmp_path / "others.safetensors").write_bytes(model)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    return tmp_path


def test_commands__one_line_for_a_file_of_another_kind(folder: Path) -> None:
    files = ("picture.png", "cut.safetensors", "others.safetensors", "empty", "folder", "missing", "a.bam")
    calls = [
        (f"{kind} {file}", *(file if word == "X" else word for word in words))
        for kind, words in COMMANDS.items()
        for file in files
        if (kind, file) != ("alignments", "a.bam")
    ]
    result = subprocess.run(
        [sys.executable, "-c", CALL_ALL],
        input="".join("\t".join(call) + "\n" for call in calls),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    ends = dict(line.split("\t", 1) for line in result.stdout.splitlines() if line.count("\t") == 1)
    assert {name: ends.get(name) for name, *_ in calls} == {name: "2" for name, *_ in calls}, result.stderr[-3_000:]
    assert result.stderr.count("\n") == len(calls)
    assert [path.name for path in folder.glob("o*")] == ["others.safetensors"]
