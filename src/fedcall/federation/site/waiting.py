"""Wait at a folder for an answer that somebody carries there."""

import time
from collections.abc import Callable

from fedcall.federation.drop_folder import NotThere
from fedcall.federation.flower.messages import Answer

_LOOK_SECONDS = 1.0


def wait_for(take: Callable[[], Answer], deadline: float) -> Answer:
    """Return what `take` returns, or "wait" with the reason while it raises NotThere until `deadline`.

    `deadline` is of `time.monotonic`; `take` is tried once even if it has passed.
    """
    while True:
        try:
            return take()
        except NotThere as missing:
            if time.monotonic() >= deadline:
                return Answer("wait", sentence=f"no answer yet: {missing}")
            time.sleep(_LOOK_SECONDS)
