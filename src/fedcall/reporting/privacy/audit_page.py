"""The audit's page: its figure; the document is `experiments.documents.AuditReport`, the template `audit.html`."""

from fedcall.experiments.documents import AuditReport
from fedcall.reporting.base import figures


def audit_figures(report: AuditReport) -> dict[str, str]:
    """Draw, per scene and planted fault, what is claimed and what was proven."""
    rows = [
        (scene.fault or scene.scene, scene.epsilon_lower_bound, scene.claimed_epsilon)
        for scene in (*report.scenes, *report.faults)
    ]
    return {"bounds": figures.bounds(rows, len(report.scenes), report.delta)}
