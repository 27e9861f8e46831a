"""Snakemake report plugin: a study's privacy dossier from its finished workflow.

`snakemake --reporter privacy --report-privacy-output dossier.html` writes the page and, beside it, `dossier.json`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_report_plugins.reporter import ReporterBase
from snakemake_interface_report_plugins.settings import ReportSettingsBase


@dataclass
class ReportSettings(ReportSettingsBase):
    """Options of the command line, each as `--report-privacy-NAME`."""

    output: Optional[Path] = field(  # noqa: UP045 (Snakemake reads this type, and knows only this spelling)
        default=None,
        metadata={
            "help": "Where to write the privacy dossier: a file ending in .html. The same facts go to a file of that"
            " name ending in .json.",
            "env_var": False,
            "required": True,
        },
    )


class Reporter(ReporterBase):
    """Writes the dossier from the records Snakemake kept of the jobs that made the results."""

    def __post_init__(self) -> None:
        self.output = self.settings.output
        if self.output is None or self.output.suffix != ".html":
            raise WorkflowError(f"--report-privacy-output {self.output}: a file that ends in .html is expected")

    def render(self) -> None:
        # Imported here: Snakemake imports every report plugin at every start.
        from fedcall.errors import FedcallError
        from fedcall.reporting.base.pages import write_report
        from snakemake_report_plugin_privacy.dossier import dossier
        from snakemake_report_plugin_privacy.rule_graph import draw

        try:
            document = dossier(self.jobs, self.dag)
            write_report(
                document,
                "dossier.html",
                self.output,
                self.output.with_suffix(".json"),
                {"rules": draw(document.rules, document.edges)},
            )
        except FedcallError as error:
            raise WorkflowError(str(error)) from error
