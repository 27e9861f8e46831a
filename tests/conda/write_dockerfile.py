"""Write the Dockerfile at the root anew, after a change of workflow/envs: `python tests/conda/write_dockerfile.py`."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHIM = Path(__file__).with_name("conda_shim.py")
# `snakemake --containerize` knows nothing of post-deploy scripts, which install fedcall.
HEAD = (
    "# Written by tests/conda/write_dockerfile.py: snakemake --containerize, and fedcall put into every environment.\n"
)
# Named one by one: the checkout may hold keys, ledgers and patients' results.
COPIES = """
COPY pyproject.toml constraints.txt README.md LICENSE /fedcall/
COPY src /fedcall/src
COPY workflow /fedcall/workflow
"""


def dockerfile() -> str:
    """Return the Dockerfile that fits workflow/envs."""
    with tempfile.TemporaryDirectory() as folder:
        conda = Path(folder, "conda")  # asked for its root folder only
        conda.write_text(f'#!/bin/sh\nexec {sys.executable} {SHIM} {folder} {folder} "$@"\n')
        conda.chmod(0o755)
        generated = subprocess.run(
            [Path(sys.executable).with_name("snakemake"), "--containerize", "--nolock"],
            cwd=ROOT,
            env=os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    environments = re.findall(r"^COPY workflow/envs/(\w+)\.yaml (/conda-envs/\w+)/", generated, flags=re.MULTILINE)
    steps = [
        f"conda run --prefix {prefix} bash /fedcall/workflow/envs/{name}.post-deploy.sh"
        for name, prefix in environments
        if (ROOT / f"workflow/envs/{name}.post-deploy.sh").is_file()
    ]
    deployment = "RUN export FEDCALL_CHECKOUT=/fedcall && \\\n    " + " && \\\n    ".join(steps)
    return f"{HEAD}{generated.rstrip()}\n{COPIES}{deployment}\n"


if __name__ == "__main__":
    (ROOT / "Dockerfile").write_text(dockerfile())
