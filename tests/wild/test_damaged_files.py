"""`fedcall check` on damaged files of every kind: read, or refused in one line, and never a traceback."""

import os
import subprocess
import sys
from pathlib import Path

FUZZ = Path(__file__).parent / "fuzz_check.py"
TIMES = max(20, int(os.environ.get("FEDCALL_WILD_EXAMPLES", "40")) // 2)


def test_check__damaged_files_of_every_kind(tmp_path: Path) -> None:
    paths = [*sys.path, str(FUZZ.parent), str(FUZZ.parent.parent / "support")]
    result = subprocess.run(
        [sys.executable, str(FUZZ), str(tmp_path), str(TIMES)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=3_000,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-6_000:] + result.stderr[-2_000:]
    ends = [line.split(": ")[1] for line in result.stdout.splitlines()]
    # Some damage can be seen, and some cannot: both happen, of many kinds of files.
    assert sum(not end.startswith("0 refused") for end in ends) > 15
    assert sum(not end.endswith(", 0 read") for end in ends) > 8
