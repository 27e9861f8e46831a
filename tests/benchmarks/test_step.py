"""The benchmark of a private step: through the shell, as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path


def run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("fedcall")), "benchmark", "step", "--repeats", "2", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_benchmark_step__json_and_table_hold_what_is_promised():
    result = run("--json")
    assert result.stderr == "", "warnings of libraries tell a user nothing"
    found = json.loads(result.stdout)
    # Two turns on a busy machine prove no speed; the order of magnitude and the memory are safe to ask for.
    assert 0.5 < found["sgd_ratio"] < 5
    assert found["opacus_ratio"] > 1
    assert 0 < found["noise_share"] < 0.2
    memory = found["peak_memory_mb"]
    assert memory["private"] <= 1.15 * memory["opacus"], "at most as much; the system's figure wobbles by some percent"
    milliseconds = found["milliseconds"]
    names = {"sgd", "private", "opacus", "sgd_head", "private_head", "noise", "unwatched", "delta", "delta_head"}
    assert milliseconds.keys() == names
    assert all(value > 0 for value in milliseconds.values())
    assert -0.5 < found["oracle_share"] < 0.5, "cheap; on a busy machine its turn may even be the faster one"
