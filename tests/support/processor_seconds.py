"""What each file of tests costs: processor seconds of this process, and of those it started and waited for.

With `--processor-seconds`, the table stands at the end of the run, dearest first. Seconds on the clock say what else
the machine did; processor seconds say what a test costs, on a busy machine too. A service that somebody else waits for
is left out.
"""

import resource
from collections import defaultdict
from collections.abc import Iterator

import pytest

OPTION = "--processor-seconds"
_PROPERTY = "processor seconds"


def add_option(parser: pytest.Parser) -> None:
    """Add the option of the command line."""
    parser.addoption(OPTION, action="store_true", help="print what each file of tests cost, in processor seconds")


def plug_in(config: pytest.Config) -> None:
    """Measure where the option asks for it; with several workers, each measures and the first process adds up."""
    if config.getoption(OPTION):
        config.pluginmanager.register(_Measurement(), "processor-seconds")


class _Measurement:
    def __init__(self) -> None:
        self._spent: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])  # processor, clock, tests, by file
        self._before = _processor_seconds()

    def pytest_collection_finish(self) -> None:
        self._before = _processor_seconds()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Iterator[None]:
        report = yield
        now = _processor_seconds()
        report.user_properties.append((_PROPERTY, now - self._before))
        self._before = now
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        file = self._spent[report.nodeid.split("::")[0]]
        # The last one: properties of setup stand in the reports that follow, too.
        file[0] += [value for name, value in report.user_properties if name == _PROPERTY][-1]
        file[1] += report.duration
        file[2] += report.when == "call"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._spent:
            return
        terminalreporter.section("processor seconds, seconds, tests")
        for name, spent in sorted(self._spent.items(), key=lambda item: -item[1][0]):
            terminalreporter.write_line("{:8.1f} {:8.1f} {:5.0f}  {}".format(*spent, name))
        total = [sum(column) for column in zip(*self._spent.values(), strict=True)]
        terminalreporter.write_line("{:8.1f} {:8.1f} {:5.0f}  in all".format(*total))


def _processor_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
