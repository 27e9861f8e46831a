"""Point 7 of the promise: no figure of held-out people moves with a training patient's genotypes."""

from pathlib import Path

import pytest
import yaml

from panel_of_people import write_panel
from rehearsal_workspace import STUDY, Workspace

CONCORDANCE = "results/tiny/north/concordance/likelihood/north-h01.json"
TABLE = "results/tiny/north/allele_counts.tsv"


@pytest.fixture
def people(simulated_cohort: Path, tmp_path: Path) -> Workspace:
    """Return a folder whose sheet names the simulated people: two hospitals and the public, nothing run."""
    workspace = Workspace.create(tmp_path / "run", {}, STUDY)
    header, *rows = (simulated_cohort / "samples.tsv").read_text().splitlines()
    write_sheet(workspace, header, rows, simulated_cohort)
    configure(workspace, simulated_cohort)
    return workspace


def write_sheet(workspace: Workspace, header: str, rows: list[str], folder: Path) -> None:
    columns = header.split("\t")
    lines = [header]
    for row in rows:
        cells = dict(zip(columns, row.split("\t"), strict=True))
        for column in ("alignments", "truth", "regions"):
            cells[column] = str(folder / cells[column])
        lines.append("\t".join(cells.values()))
    (workspace.path / "samples.tsv").write_text("\n".join(lines) + "\n")


def configure(workspace: Workspace, folder: Path, **keys: object) -> None:
    content = {"study": "config/study.yaml", "samples": "samples.tsv", "reference": str(folder / "reference.fa")}
    (workspace.path / "config/config.yaml").write_text(yaml.safe_dump(content | keys))


def scored(workspace: Workspace) -> str:
    # Scored with the model that no patient trained: what changes here, changes without any noise.
    result = workspace.snakemake(CONCORDANCE, "--quiet", "all")
    assert result.returncode == 0, result.stdout[-4000:]
    return (workspace.path / CONCORDANCE).read_text()


def test_point_7__removing_a_training_patient_changes_no_figure_of_held_out_people(
    people: Workspace, tmp_path: Path
) -> None:
    sheet = people.path / "samples.tsv"
    fewer = people.copy(tmp_path / "fewer")
    rows = sheet.read_text().splitlines(keepends=True)
    kept = [row for row in rows if not row.startswith("north-002\t")]
    assert len(kept) == len(rows) - 1
    (fewer.path / "samples.tsv").write_text("".join(kept))
    assert scored(people) == scored(fewer)
    assert (people.path / TABLE).read_text() == (fewer.path / TABLE).read_text()
    assert '"stratum": "allele count"' in (people.path / CONCORDANCE).read_text()


def test_point_7__with_a_public_panel_the_panel_says_what_is_rare(people: Workspace, simulated_cohort: Path) -> None:
    panel = write_panel(people.path / "panel.vcf", simulated_cohort.glob("public-*.truth.vcf.gz"))
    configure(people, simulated_cohort, panel=str(panel))
    figures = scored(people)
    assert '"stratum": "panel frequency"' in figures
    assert '"stratum": "allele count"' not in figures
    assert not (people.path / TABLE).exists()
