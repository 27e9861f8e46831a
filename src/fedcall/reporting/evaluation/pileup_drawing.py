"""Reads around an error as inline SVG, in the notation of samtools: `.` and `,` where a read agrees, else its base."""

from html import escape

from fedcall.genomics.concordance.worst_errors import CallError, DrawnRead
from fedcall.shown import shown

COLUMN, LINE = 8, 13
_TOP = 2 * LINE  # the reference above the reads


def draw_pileup(error: CallError) -> str:
    """Draw the reference, the reads below it, and a frame around the error.

    A base that differs is printed on a coloured ground, pale if its quality is low, upper case on the forward strand; a
    tick marks an insertion. The picture is readable in black and white: the letters say everything.
    """
    columns = len(error.reference)
    width = columns * COLUMN + 44
    height = _TOP + LINE * len(error.reads) + 4
    at = (error.position - error.start) * COLUMN
    framed = max(1, len(error.ref) if len(error.alt) == 1 else 1) * COLUMN
    words = escape(shown(_in_words(error)))
    parts = [
        f'<svg class="pileup" viewBox="0 0 {width} {height}" role="img" aria-label="{words}">',
        f'<rect class="frame" x="{at}" y="2" width="{min(framed, columns * COLUMN - at)}" height="{height - 4}"/>',
        _text(error.reference, 0, LINE, "reference"),
        f'<text class="head" x="{columns * COLUMN + 6}" y="{LINE}">MAPQ</text>',
    ]
    for number, read in enumerate(error.reads):
        parts += _read(read, error.reference, _TOP + LINE * (number + 1) - 4)
    return "".join(parts) + "</svg>"


def _read(read: DrawnRead, reference: str, y: int) -> list[str]:
    drawn = []
    letters = []
    for column, (base, expected) in enumerate(zip(read.bases, reference, strict=True)):
        if base in " *>":
            letters.append(base)
        elif base.upper() == expected:
            letters.append("," if read.reverse else ".")
        else:
            weak = " weak" if base.islower() else ""
            letter = base.upper() if base.isalpha() else ""
            drawn.append(
                f'<rect class="base {letter}{weak}" x="{column * COLUMN}" y="{y - LINE + 3}" width="{COLUMN}"'
                f' height="{LINE - 1}"/>'
            )
            letters.append(base.lower() if read.reverse else base.upper())
    row = "".join(letters)
    text = row.strip()
    if text:
        drawn.append(_text(text, row.index(text), y, "read"))
    for insertion in read.insertions:
        x = (insertion.column + 1) * COLUMN
        tick = f"M{x} {y - LINE + 3}v{LINE - 1}"
        drawn.append(f'<path class="insertion" d="{tick}"><title>+{escape(shown(insertion.bases))}</title></path>')
    drawn.append(f'<text class="head" x="{len(reference) * COLUMN + 6}" y="{y}">{read.mapping_quality}</text>')
    return drawn


def _text(letters: str, column: int, y: int, kind: str) -> str:
    """One text element spread over its columns, whatever font the reader has."""
    x, length, written = column * COLUMN, len(letters) * COLUMN, escape(shown(letters, 1000))
    return f'<text class="{kind}" x="{x}" y="{y}" textLength="{length}" xml:space="preserve">{written}</text>'


def _in_words(error: CallError) -> str:
    return (
        f"Pileup of {error.depth} reads at {error.contig}:{error.position}, {error.ref} to {error.alt}, {error.kind};"
        f" {error.supporting} reads show the allele"
    )
