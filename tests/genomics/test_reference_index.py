"""References as people have them, and an index that is another file's."""

import gzip
import random
import shutil
from pathlib import Path

import pysam
import pytest

from fedcall.errors import FedcallError
from fedcall.genomics.reference import kept_reference, open_reference

CONTIGS = {f"c{k}": "".join(random.Random(k).choices("ACGT", k=40 + 7 * k)) for k in range(30)}


def text(contigs: dict[str, str], width: int = 60, end: str = "\n", last: str | None = None) -> str:
    lines = []
    for name, bases in contigs.items():
        lines += [f">{name} described", *(bases[at : at + width] for at in range(0, len(bases), width))]
    return end.join(lines) + (end if last is None else last)


@pytest.mark.parametrize("content", [
    text(CONTIGS), text(CONTIGS, end="\r\n"), text(CONTIGS, last=""), text(CONTIGS, width=1_000), text(CONTIGS).lower(),
    text({"r": "ACRYSWKMBDHVN" * 9, "HLA:A*01:01": "acgtn" * 30}), text({"one": "A"}), text({"": ""}) + text(CONTIGS),
])  # fmt: skip
@pytest.mark.parametrize("packed", [False, True])
def test_open_reference__odd_forms(tmp_path: Path, content: str, packed: bool) -> None:
    path = tmp_path / "r.fa"
    path.write_text(content, newline="")
    if packed:
        pysam.tabix_compress(str(path), f"{path}.gz")
        path = Path(f"{path}.gz")
    pysam.faidx(str(path))
    with open_reference(path) as fasta:
        bases = {name: fasta.fetch(name) for name in fasta.references}
    sequences = {part.split()[0]: "".join(part.splitlines()[1:]) for part in content.split(">") if part.split()[1:]}
    assert {name: own for name, own in bases.items() if own} == sequences


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "changed",
    [
        {**CONTIGS, "c0": CONTIGS["c0"] + "A"},
        {**CONTIGS, "c29": CONTIGS["c29"][:-1]},
        {**CONTIGS, "c29": CONTIGS["c29"] + "ACGT"},
        {name: CONTIGS[name] for name in reversed(CONTIGS)},
        {name.replace("c", "chr"): bases for name, bases in CONTIGS.items()},
    ],
)
def test_open_reference__an_index_of_another_file(tmp_path: Path, changed: dict[str, str], packed: bool) -> None:
    old, new = tmp_path / "old.fa", tmp_path / "new.fa"
    old.write_text(text(CONTIGS))
    new.write_text(text(changed))
    for path in (old, new):
        if packed:
            pysam.tabix_compress(str(path), f"{path}.gz")
        pysam.faidx(f"{path}.gz" if packed else str(path))
    ending = ".gz" if packed else ""
    shutil.copy(f"{old}{ending}.fai", f"{new}{ending}.fai")
    for opened in (open_reference, kept_reference):
        with pytest.raises(FedcallError, match=r"new.fa(.gz)?.fai: contig 'c\d+' is not where the index says"):
            opened(Path(f"{new}{ending}"))


def test_open_reference__gzipped_or_empty_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "r.fa.gz"
    path.write_bytes(gzip.compress(text(CONTIGS).encode()))
    for name in ("fai", "gzi"):
        (tmp_path / f"r.fa.gz.{name}").write_text("c0\t40\t15\t60\t61\n")
    (tmp_path / "e.fa").write_text("")
    (tmp_path / "e.fa.fai").write_text("c0\t40\t15\t60\t61\n")
    for file in (path, tmp_path / "e.fa"):
        with pytest.raises(FedcallError) as caught:
            open_reference(file)
        assert "\n" not in str(caught.value)
