"""Results do not depend on how a genome is cut: byte for byte for examples, record for record for calls."""

from itertools import pairwise
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from fedcall.cli import call, pileup
from fedcall.errors import FedcallError
from fedcall.genomics.examples import write_examples
from fedcall.genomics.pileup.extraction import extract_examples
from fedcall.genomics.shards import (
    Shard,
    count_bases,
    count_jobs,
    count_shards,
    cut_regions,
    gather_calls,
    gather_examples,
    parse_shard,
)
from fedcall.model.caller import build_model, save_model


def run(arguments: list[object], output: Path) -> Path:
    app = typer.Typer()
    call.register(app)
    pileup.register(app)
    result = CliRunner().invoke(app, [str(word) for word in arguments])
    assert result.exit_code == 0, result.output
    return output


@given(
    regions=st.lists(st.tuples(st.integers(1, 50), st.integers(1, 200)), min_size=1, max_size=6),
    total=st.integers(1, 9),
)
def test_cut_regions__every_base_once(regions: list[tuple[int, int]], total: int) -> None:
    spans, at = [], 0
    for gap, length in regions:
        spans.append(("c", at + gap, at + gap + length))
        at += gap + length
    bases = [base for _, start, end in spans for base in range(start, end)]
    shards = [cut_regions(spans, Shard(number, total)) for number in range(1, total + 1)]
    found = [base for pieces in shards for (_, start, end), _ in pieces for base in range(start, end)]
    assert found == bases
    sizes = [sum(end - start for (_, start, end), _ in pieces) for pieces in shards]
    assert max(sizes) - min(sizes) <= 1
    assert all(region in spans for pieces in shards for _, region in pieces)


@given(number=st.integers(1, 20), total=st.integers(1, 20), pieces=st.integers(1, 9), bases=st.integers(0, 10_000))
def test_shard_split__same_bases(number: int, total: int, pieces: int, bases: int) -> None:
    whole = Shard(min(number, total), total)
    bounds = [piece.bounds(bases) for piece in whole.split(pieces)]
    assert (bounds[0][0], bounds[-1][1]) == whole.bounds(bases)
    assert all(before[1] == after[0] for before, after in pairwise(bounds))


@given(bases=st.integers(1, 10_000), size=st.integers(1, 50), at_most=st.integers(2, 200))
def test_count_jobs__no_more_shards_than_needed(bases: int, size: int, at_most: int) -> None:
    shards = -(-bases // size)
    jobs = count_jobs(shards, at_most)
    assert jobs <= at_most
    assert (jobs == 1) == (shards == 1), "what needs shards gets them"
    in_turn = -(-shards // jobs)
    sizes = {last - first for first, last in (Shard(number, jobs).bounds(bases) for number in range(1, jobs + 1))}
    assert max(sizes) <= in_turn * size
    assert shards > at_most or in_turn == 1, "few shards are a job each"


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "-1/3", "a/b", "1/3/5", ""])
def test_parse_shard__refuses(text: str) -> None:
    with pytest.raises(FedcallError, match="--shard"):
        parse_shard(text)


def test_count_shards__follows_bases(tmp_path: Path) -> None:
    reference, bed = tmp_path / "r.fa", tmp_path / "r.bed"
    reference.write_text(">c\nACGT\n")
    Path(f"{reference}.fai").write_text("c\t1000\t3\t4\t5\n")
    bed.write_text("c\t0\t100\nc\t300\t401\n")
    assert count_shards(count_bases(None, reference), 1000) == 1
    assert count_shards(count_bases(None, reference), 999) == 2
    assert count_shards(count_bases(bed, reference), 201) == 1
    assert count_shards(count_bases(bed, reference), 200) == 2
    assert count_shards(count_bases(tmp_path / "not-yet.bed", reference), 1) == 1


@pytest.mark.real_data
@pytest.mark.parametrize("total", [1, 3, 7])
def test_gather_examples__byte_for_byte_the_whole(shared_data: Path, tmp_path: Path, total: int) -> None:
    folder = shared_data / "na12878"
    files = (folder / "NA12878.bam", folder / "reference.fa.gz", folder / "regions.bed", folder / "truth.vcf.gz")
    write_examples(tmp_path / "whole", extract_examples(*files))
    parts = [tmp_path / f"{number}" for number in range(1, total + 1)]
    for number, part in enumerate(parts, start=1):
        write_examples(part, extract_examples(*files, shard=Shard(number, total)))
    gathered = gather_examples(parts, tmp_path / "gathered")
    assert gathered > 150
    assert (tmp_path / "gathered").read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.real_data
def test_call__shards_call_what_the_whole_does(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "na12878"
    save_model(tmp_path / "model", build_model())
    common = ["call", "--model", tmp_path / "model", "--alignments", folder / "NA12878.bam"]
    common += ["--reference", folder / "reference.fa.gz", "--regions", folder / "regions.bed"]

    def call(output: Path, *options: str) -> Path:
        return run([*common, "--output", output, *options], output)

    whole = call(tmp_path / "whole.vcf.gz")
    for total in (3, 7):
        parts = [call(tmp_path / f"{k}.vcf.gz", "--shard", f"{k}/{total}") for k in range(1, total + 1)]
        assert gather_calls(parts, tmp_path / f"{total}.gathered.vcf.gz") > 80
        assert (tmp_path / f"{total}.gathered.vcf.gz").read_bytes() == whole.read_bytes()
    in_turn = call(tmp_path / "in-turn.vcf.gz", "--shard-size", "30000")
    assert in_turn.read_bytes() == whole.read_bytes()
    third = call(tmp_path / "third.vcf.gz", "--shard", "2/3", "--shard-size", "9000")
    assert third.read_bytes() == call(tmp_path / "2.vcf.gz", "--shard", "2/3").read_bytes()


@pytest.mark.real_data
def test_pileup__shards_in_turn_write_the_same_bytes(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "na12878"
    common = ["pileup", "--alignments", folder / "NA12878.bam", "--reference", folder / "reference.fa.gz"]
    common += ["--regions", folder / "regions.bed", "--truth", folder / "truth.vcf.gz"]

    def extract(name: str, *options: str) -> bytes:
        output = tmp_path / "new" / name
        return run([*common, "--output", output, *options], output).read_bytes()

    assert extract("turns", "--shard-size", "30000") == extract("whole")
    third = extract("third", "--shard", "2/3")
    assert extract("third-turns", "--shard", "2/3", "--shard-size", "9000") == third
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"turns", "whole", "third", "third-turns"}


def test_gather_examples__refuses_disorder(simulated_cohort: Path, tmp_path: Path) -> None:
    alignments = sorted(simulated_cohort.rglob("*.bam"))[0]
    parts = [tmp_path / "1", tmp_path / "2"]
    for number, part in enumerate(parts, start=1):
        write_examples(part, extract_examples(alignments, simulated_cohort / "reference.fa", shard=Shard(number, 2)))
    with pytest.raises(FedcallError, match="holds shard 2/2, needed here 1/2"):
        gather_examples(parts[::-1], tmp_path / "out")
    with pytest.raises(FedcallError, match="holds shard 1/2, needed here 1/1"):
        gather_examples(parts[:1], tmp_path / "out")
    assert not (tmp_path / "out").exists()
