"""JSON Schemas of everything people and sites write, generated from the models that read it.

`python -m fedcall.workflow.schemas` writes them to workflow/schemas; a test keeps them in step.
"""

from pathlib import Path
from typing import Any

import yaml

from fedcall.documents import Document
from fedcall.files import write_text
from fedcall.study.claims import Claim, Receipt
from fedcall.study.terms import Study
from fedcall.workflow.configuration import Config, Patient

SCHEMAS: dict[str, type[Document]] = {
    "config": Config,
    "samples": Patient,
    "study": Study,
    "claim": Claim,
    "receipt": Receipt,
}
FOLDER = Path("workflow/schemas")
HEADER = "# Generated from the models of the library by `python -m fedcall.workflow.schemas`; do not edit.\n"


def schema_text(name: str) -> str:
    """Return the schema of a kind of file as YAML (JSON Schema 2020-12)."""
    schema: dict[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    schema |= SCHEMAS[name].model_json_schema()
    return HEADER + yaml.safe_dump(schema, sort_keys=False, width=120)


def schema_path(folder: Path, name: str) -> Path:
    """Return the path of a schema in the folder of schemas."""
    return folder / f"{name}.schema.yaml"


def write_schemas(folder: Path) -> None:
    """Write every schema into `folder`."""
    for name in SCHEMAS:
        write_text(schema_path(folder, name), schema_text(name))


if __name__ == "__main__":
    write_schemas(FOLDER)
