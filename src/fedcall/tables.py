"""Every table of the reports as a tidy pandas DataFrame: one row per observation, one column per variable.

A figure with an interval is three columns: `f1`, `f1_low`, `f1_high`. Missing values are as pandas has them.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from fedcall.documents import Document, describe
from fedcall.errors import FedcallError
from fedcall.files import write_text
from fedcall.reporting.evaluation.documents import CalibrationPoint, CallerCost, EvaluationReport
from fedcall.reporting.privacy.documents import (
    CurvePoint,
    PlannedSpend,
    PrivacyReport,
    Refusal,
    RoundSpend,
    SiteSpend,
    StudyPrivacyReport,
    StudySpend,
)
from fedcall.reporting.utility.documents import UtilityReport
from fedcall.shown import shown

_CELL_CHARACTERS = 2000

Report = EvaluationReport | PrivacyReport | StudyPrivacyReport | UtilityReport


def read_report(path: Path) -> Report:
    """Read the JSON of a report, whichever of the four kinds it is.

    Raises
    ------
    FedcallError
        If there is no such file, or it is not the JSON of a report.
    """
    try:
        report: Report = TypeAdapter(Report).validate_json(Path(path).read_bytes())
        return report
    except FileNotFoundError:
        raise FedcallError(f"{path}: no such report; make it with 'fedcall report'") from None
    except ValidationError as error:
        first = describe(error).partition(";")[0]
        raise FedcallError(f"{path}: not the JSON of a report of this version of fedcall ({first})") from None


def tables(report: Report) -> dict[str, pd.DataFrame]:
    """Return the tables of a report by name.

    Of an evaluation: `scores`, `strata`, `calibration`, `differences` (of the final model and each other caller, in
    pairs), `costs`. Of a site's privacy report: `spend` (a row per round),
    `receipts`, `plan`, `curve` (epsilon by delta), and `studies` unless it was made shareable. Of a study's: `sites`,
    `refusals`. Of privacy against utility: `utility`.
    """
    if isinstance(report, EvaluationReport):
        return _evaluation(report)
    if isinstance(report, PrivacyReport):
        return _site_privacy(report)
    if isinstance(report, StudyPrivacyReport):
        return {"sites": _frame(report.sites, SiteSpend), "refusals": _frame(report.refusals, Refusal)}
    return {"utility": _utility(report)}


def write_tables(path: Path) -> list[Path]:
    """Write a report's tables beside its JSON (`privacy.spend.tsv` beside `privacy.json`) and return their paths."""
    path = Path(path)
    written = []
    for name, frame in tables(read_report(path)).items():
        written.append(path.with_suffix(f".{name}.tsv"))
        write_text(written[-1], to_tsv(frame))
    return written


def to_tsv(frame: pd.DataFrame) -> str:
    """Return a table as text, a line per row; what is not printable in a cell is escaped."""
    cells = frame.map(lambda cell: shown(cell, _CELL_CHARACTERS) if isinstance(cell, str) else cell)
    return str(cells.to_csv(sep="\t", index=False, na_rep="NA", lineterminator="\n"))


def _evaluation(report: EvaluationReport) -> dict[str, pd.DataFrame]:
    scores = [
        {"site": scope.site or "all", "patients": scope.patients, **_row(figures)}
        for scope in report.scopes
        for figures in scope.figures
    ]
    strata = [{**_row(row), **_row(cell)} for row in report.strata for cell in row.cells]
    return {
        "scores": pd.DataFrame(scores),
        "strata": pd.DataFrame(strata),
        "calibration": _frame(report.calibration, CalibrationPoint),
        "differences": pd.DataFrame([_row(row) for row in report.differences]),
        "costs": _frame(report.costs, CallerCost),
    }


def _site_privacy(report: PrivacyReport) -> dict[str, pd.DataFrame]:
    spend = _frame(report.rounds, RoundSpend)
    spend.insert(0, "site", report.site)
    answers = ["status", "reason", "sentence"]
    found = {
        "spend": spend.drop(columns=answers),
        "receipts": spend[["site", "round", *answers]],
        "plan": _frame(report.planned, PlannedSpend),
        "curve": _frame(report.curve, CurvePoint),
    }
    if report.site_only is not None:
        found["studies"] = _frame(report.site_only.by_study, StudySpend)
    return found


def _utility(report: UtilityReport) -> pd.DataFrame:
    """Return a row per point of each line, and one each for the model training started from and for the likelihood."""
    rows = [{"study": line.study, **_row(line), **_row(point)} for line in report.lines for point in line.points]
    rows.append({"study": "start", **_row(report.start)})
    rows.append({"study": "likelihood", **_row(report.likelihood)})
    return pd.DataFrame(rows)


def _frame(documents: Iterable[Document], kind: type[Document]) -> pd.DataFrame:
    """Return a row per document; without any, an empty table with the same columns."""
    return pd.DataFrame([_row(document) for document in documents], columns=list(kind.model_fields))


def _row(document: Document) -> dict[str, Any]:
    """Return a document's plain values by column; a measure (value, low, high) is three columns, lists are left out."""
    row: dict[str, Any] = {}
    for name in type(document).model_fields:
        value = getattr(document, name)
        if isinstance(value, Document):
            inner = _row(value)
            row |= {name if key == "value" else f"{name}_{key}": part for key, part in inner.items()}
        elif not isinstance(value, tuple | list | dict):
            row[name] = value
    return row
