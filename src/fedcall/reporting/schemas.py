"""The JSON schemas of the reports, generated from the models that write them."""

from typing import Any

from fedcall.documents import Document
from fedcall.experiments.documents import AuditReport
from fedcall.reporting.comparison.documents import ComparisonReport
from fedcall.reporting.evaluation.documents import EvaluationReport
from fedcall.reporting.privacy.dashboard import Dashboard
from fedcall.reporting.privacy.documents import PrivacyReport, StudyPrivacyReport
from fedcall.reporting.utility.documents import UtilityReport

REPORTS: dict[str, type[Document]] = {
    "privacy": PrivacyReport,
    "privacy-study": StudyPrivacyReport,
    "evaluation": EvaluationReport,
    "comparison": ComparisonReport,
    "dashboard": Dashboard,
    "utility": UtilityReport,
    "audit": AuditReport,
}


def report_schema(name: str) -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a report, one of `REPORTS`."""
    schema = REPORTS[name].model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
