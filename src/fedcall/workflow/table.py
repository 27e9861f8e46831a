"""Read a tab-separated table as spreadsheets save it: cells, with the lines they stand in."""

from pathlib import Path

from fedcall.errors import FedcallError
from fedcall.files import read_text


def read_table(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the columns, and the rows with their line numbers; empty rows are skipped, but counted.

    A cell within quotation marks, as spreadsheets write cells with marks in them, is taken without them. Otherwise
    a mark is an ordinary letter, and never joins cells or lines.

    Raises
    ------
    FedcallError
        If the file is no text in UTF-8, a mark at the start of a cell is never closed, a row has more cells than the
        header, or a column is there twice; names the line.
    """
    columns: list[str] | None = None
    rows: list[tuple[int, dict[str, str]]] = []
    for line, text in enumerate(read_text(path).split("\n"), start=1):
        if not text.strip():
            continue
        cells = [_cell(path, line, cell) for cell in text.split("\t")]
        if columns is None:
            columns = cells
            twice = next((name for name in columns if name and columns.count(name) > 1), None)
            if twice is not None:
                raise FedcallError(f"{path}:{line}: column '{twice}' is there twice; leave one out")
            continue
        surplus = [cell for cell in cells[len(columns) :] if cell]
        if surplus:
            raise FedcallError(
                f"{path}:{line}: {len(cells)} cells in a row, but {len(columns)} columns in the header;"
                f" what is '{surplus[0][:40]}'?"
            )
        rows.append((line, dict(zip(columns, cells + [""] * (len(columns) - len(cells)), strict=False))))
    return columns or [], rows


def _cell(path: Path, line: int, text: str) -> str:
    text = text.strip(" ")
    if not text.startswith('"'):
        return text
    inner = text[1:-1]
    if len(text) < 2 or not text.endswith('"') or '"' in inner.replace('""', ""):
        raise FedcallError(f"{path}:{line}: a quotation mark begins the cell {text[:40]} and none ends it; remove it")
    return inner.replace('""', '"').strip(" ")
