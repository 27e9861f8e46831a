"""What would end the process ends a child only."""

import os
import signal

from fedcall.genomics.trial import crashes


def test_crashes__only_by_a_signal() -> None:
    assert crashes(lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert not crashes(lambda: 1 / 0)
    assert not crashes(lambda: None)
