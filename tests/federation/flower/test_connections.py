"""How many connections a process may hold, seen at its start, before anybody connects."""

import subprocess
import sys

import pytest

ALLOWED = """
import resource, sys
soft, hard = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from fedcall.federation.flower.connections import connections_allowed
print(connections_allowed(150))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "allowed"),
    [(256, 1024, 150), (1024, 1024, 150), (256, 256, 96)],
    ids=["raised as far as needed", "enough", "as many as the machine allows"],
)
def test_connections_allowed__descriptors_are_counted_at_the_start(soft: int, hard: int, allowed: int) -> None:
    done = _in_a_process_with(soft, hard)
    assert (done.returncode, done.stdout.split()) == (0, [str(allowed)]), done.stderr
    assert ("allows 96 connections instead of 150" in done.stderr) == (allowed == 96)


def test_connections_allowed__too_few_descriptors_are_refused_with_what_to_do() -> None:
    done = _in_a_process_with(180, 180)
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1] == "OSError: the limit of open files is 180; 192 are needed (ulimit -n)"


def _in_a_process_with(soft: int, hard: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", ALLOWED, str(soft), str(hard)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
