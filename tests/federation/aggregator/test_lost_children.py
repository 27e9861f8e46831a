"""A SuperLink that dies is started again by the worker itself, whose gate keeps its port: no supervisor is needed."""

import threading
from pathlib import Path
from typing import Any

import pytest

from fedcall.errors import FedcallError
from fedcall.federation.aggregator import service
from fedcall.federation.child import ChildLost


def work(monkeypatch: pytest.MonkeyPatch, folder: Path, *outcomes: Exception | None) -> list[int]:
    """Run the worker's loop with these outcomes of serving, in turn; return the ports it served at."""
    ports: list[int] = []
    left = iter(outcomes)

    def serve_once(*arguments: Any) -> None:
        ports.append(next(value for value in arguments if hasattr(value, "getsockname")).getsockname()[1])
        outcome = next(left)
        if outcome is not None:
            raise outcome

    monkeypatch.setattr(service, "_serve_once", serve_once)
    nothing: Any = None
    options = service.ServeOptions(folder / "study.json", folder, "127.0.0.1:0", folder, folder)
    try:
        service._work(options, nothing, nothing, "127.0.0.1", 0, threading.Event())
    finally:
        assert next(left, "all were used") == "all were used"
    return ports


def test_work__a_lost_child_is_started_again_behind_the_same_port(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ports = work(monkeypatch, tmp_path, ChildLost("the SuperLink ended"), ChildLost("again"), None)
    assert len(ports) == 3
    assert len(set(ports)) == 1


def test_work__gives_up_on_a_child_that_never_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(FedcallError, match="the SuperLink ended; gave up after 5 starts"):
        work(monkeypatch, tmp_path, *[ChildLost("the SuperLink ended")] * 5)


def test_work__other_failures_are_not_hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="not a child's fault"):
        work(monkeypatch, tmp_path, OSError("not a child's fault"))
