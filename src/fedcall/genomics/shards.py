"""A genome as a set of shards: which bases each has, and what joins their results again."""

import re
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedcall.errors import FedcallError
from fedcall.genomics.examples import open_examples, write_joined
from fedcall.genomics.reference import reference_contigs
from fedcall.genomics.regions import read_regions
from fedcall.genomics.vcf.bgzip import write_vcf
from fedcall.genomics.vcf.lines import open_text, refuse_truncated

HEADER = "##fedcall_shard="
Span = tuple[str, int, int]


@dataclass(frozen=True)
class Shard:
    """The `number`-th of `total` equal parts of the regions' bases; numbers begin at 1."""

    number: int = 1
    total: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"

    def bounds(self, bases: int) -> tuple[int, int]:
        """Return the first base of this part and of the next, counted over all regions in order."""
        return bases * (self.number - 1) // self.total, bases * self.number // self.total

    def split(self, pieces: int) -> list["Shard"]:
        """Return the smaller shards that together are this one, in order."""
        before = (self.number - 1) * pieces
        return [Shard(before + piece, self.total * pieces) for piece in range(1, pieces + 1)]


WHOLE = Shard()


def parse_shard(text: str | None) -> Shard:
    """Read `K/N`, 1 <= K <= N; nothing means the whole.

    Raises
    ------
    FedcallError
        If it is anything else.

    Examples
    --------
    >>> parse_shard("2/7").bounds(700)
    (100, 200)
    """
    if text is None:
        return WHOLE
    match = re.fullmatch(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,8})", text)
    if not match or int(match[1]) > int(match[2]):
        raise FedcallError(f"--shard: found '{text}'; needed K/N, the K-th of N parts, for example 2/7")
    return Shard(int(match[1]), int(match[2]))


def cut_regions(regions: Iterable[Span], shard: Shard, reach: int = 0) -> list[tuple[Span, Span]]:
    """Return what lies in a shard, each piece with the region it was cut from.

    Parameters
    ----------
    regions : sorted, disjoint
    reach : bases of the regions before and behind the shard that count as its own

    Examples
    --------
    >>> cut_regions([("1", 0, 10), ("2", 0, 10)], Shard(2, 4))  # each part, and the region it is part of
    [(('1', 5, 10), ('1', 0, 10))]
    """
    regions = list(regions)
    first, last = shard.bounds(sum(end - start for _, start, end in regions))
    first, last = first - reach, last + reach
    pieces, offset = [], 0
    for contig, start, end in regions:
        low, high = max(start, start + first - offset), min(end, start + last - offset)
        if low < high:
            pieces.append(((contig, low, high), (contig, start, end)))
        offset += end - start
    return pieces


def count_bases(regions: Path | None, reference: Path | None) -> int:
    """Return how many bases the regions have, or the genome without regions; 0 of files that are not made yet."""
    if regions is not None and regions.is_file() and reference is not None and Path(f"{reference}.fai").is_file():
        return sum(end - start for _, start, end in read_regions(regions, reference))
    if regions is None and reference is not None and Path(f"{reference}.fai").is_file():
        return sum(reference_contigs(reference).values())
    return 0


def count_shards(bases: int, shard_size: int) -> int:
    """Return how many shards of at most `shard_size` bases are needed; one for nothing."""
    return max(1, -(-bases // shard_size))


def count_jobs(shards: int, at_most: int) -> int:
    """Return on how many jobs to spread a patient's shards, so that each works through equally many of them.

    Parameters
    ----------
    at_most : at least 2, so that what needs shards gets them
    """
    shards_per_job = -(-shards // at_most)
    return -(-shards // shards_per_job)


def work_in_turn(
    output: Path,
    spans: Iterable[Span],
    shard: Shard,
    shard_size: int | None,
    work: Callable[[Path, Shard], int],
    gather: Callable[[Sequence[Path], Path, Shard], int],
) -> int:
    """Write `output` for a large shard by way of its parts of at most `shard_size` bases, one after another.

    Parameters
    ----------
    output : what it holds does not depend on `shard_size`; the parts lie beside it meanwhile
    spans : the regions, sorted and disjoint
    shard_size : without it, all is done at once
    work : writes a file for a shard, and returns the number of rows or records
    gather : `gather_examples` or `gather_calls`

    Returns
    -------
    int
        Number of rows or records written.
    """
    first, last = shard.bounds(sum(end - start for _, start, end in spans))
    pieces = 1 if shard_size is None else max(1, -(-(last - first) // shard_size))
    if pieces == 1:
        return work(output, shard)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".", suffix="." + output.name) as folder:
        parts = [Path(folder) / f"{piece}.{output.name}" for piece in range(1, pieces + 1)]
        for part, piece in zip(parts, shard.split(pieces), strict=True):
            work(part, piece)
        return gather(parts, output, shard)


def gather_examples(parts: Sequence[Path], output: Path, whole: Shard = WHOLE) -> int:
    """Join the examples of all parts of `whole`, in order; the result is what one job would have written.

    Nothing but one column of one shard is in memory at a time.

    Raises
    ------
    FedcallError
        If a shard is missing, stands elsewhere than its number says, or was made from other files.
    """
    shards = [open_examples(part) for part in parts]
    _check_order(parts, [shard.metadata.get("shard", "1/1") for shard in shards], whole)
    for key in ("sample", "reference_sha256", "regions", "bases", "label_types"):
        for part, shard in zip(parts, shards, strict=True):
            if shard.metadata.get(key) != shards[0].metadata.get(key):
                raise FedcallError(f"{part}: its {key} differs from that of {parts[0]}; make both from the same files")
    totals = {key: str(sum(int(shard.metadata[key]) for shard in shards)) for key in ("labelled", "true_alleles")}
    name = {"shard": str(whole)} if whole.total > 1 else {}
    write_joined(output, shards, totals | name, without=() if name else ("shard",))
    return sum(len(shard) for shard in shards)


def gather_calls(parts: Sequence[Path], output: Path, whole: Shard = WHOLE) -> int:
    """Join the calls of all parts of `whole`, in order, line by line; errors as for `gather_examples`."""
    headers = [_header(part) for part in parts]
    names = [next((line[len(HEADER) :] for line in header if line.startswith(HEADER)), "1/1") for header in headers]
    _check_order(parts, names, whole)
    kept = [[line for line in header if not line.startswith(HEADER)] for header in headers]
    for part, header in zip(parts, kept, strict=True):
        if header != kept[0]:
            raise FedcallError(
                f"{part}: its header differs from that of {parts[0]}; make both with the same model and panel"
            )
    records = 0

    def lines() -> Iterator[str]:
        nonlocal records
        yield from name_shard(kept[0], whole)
        for part in parts:
            for line in _lines(part):
                if not line.startswith("#"):
                    records += 1
                    yield line

    write_vcf(output, lines())
    return records


def name_shard(header: Sequence[str], shard: Shard) -> list[str]:
    """Return the lines of a VCF's header with the shard it is of; the whole has no name."""
    return [*header[:1], *([f"{HEADER}{shard}"] if shard.total > 1 else []), *header[1:]]


def _check_order(parts: Sequence[Path], names: Sequence[str], whole: Shard) -> None:
    for part, name, needed in zip(parts, names, whole.split(len(parts)), strict=True):
        if name != str(needed):
            raise FedcallError(f"{part}: holds shard {name}, needed here {needed}; name all, in order")


def _header(part: Path) -> list[str]:
    header = []
    for line in _lines(part):
        if not line.startswith("#"):
            break
        header.append(line)
    if not header or not header[-1].startswith("#CHROM"):
        raise FedcallError(f"{part}: not a whole VCF of `fedcall call --shard`; make it again")
    return header


def _lines(part: Path) -> Iterator[str]:
    if not part.is_file():
        raise FedcallError(f"{part}: no such file; `fedcall call --shard` makes it")
    try:
        refuse_truncated(part)
        with open_text(part, compressed=True) as handle:
            for line in handle:
                yield line.rstrip("\n")
    except (OSError, EOFError, zlib.error) as error:
        raise FedcallError(f"{part}: not a bgzipped VCF ({error})") from None
