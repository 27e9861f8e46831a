"""Whatever stands in any field of a report's document, its page, figures, JSON and terminal view stay ours."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fedcall import cli
from fedcall.cli.printing import say_block
from fedcall.reporting.base.pages import TEXT_CHARACTERS, render, to_json
from fedcall.reporting.comparison.report import as_text
from fedcall.tables import tables, to_tsv
from hostile_text import poisoned
from made_reports import Made, made_reports

NAMES = ("site", "adaptive", "study", "evaluation", "dashboard", "audit", "utility", "comparison", "dossier")
OURS = {"\n", "\u00a0", "\u202f"}  # what templates and figures put between words


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    return made_reports(tmp_path_factory.mktemp("reports"))


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.longest = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.longest = max([self.longest, *(len(value or "") for name, value in attrs if name != "d")])


@pytest.mark.parametrize("name", NAMES)
def test_page__hostile_text_stays_text(made: dict[str, Made], name: str) -> None:
    one = made[name]
    clean, hostile = one.document, poisoned(one.document)
    assert "x" * 20_000 in str(hostile)
    pages = [render(document, one.template, one.draw(document)) for document in (clean, hostile)]
    tags = [_Tags(), _Tags()]
    for parser, page in zip(tags, pages, strict=True):
        parser.feed(page)
        assert {letter for letter in page if not letter.isprintable()} <= OURS
    assert tags[1].attributes <= tags[0].attributes
    assert tags[1].tags.count("script") == 1
    assert "img" not in tags[1].tags
    assert tags[1].longest <= max(TEXT_CHARACTERS + 100, tags[0].longest)  # beside words of ours
    assert "x" * TEXT_CHARACTERS not in pages[1]


@pytest.mark.parametrize("name", NAMES)
def test_json__hostile_text_moves_no_cursor_and_is_kept(made: dict[str, Made], name: str) -> None:
    document = poisoned(made[name].document)
    written = to_json(document)
    assert {letter for letter in written if not letter.isprintable()} == {"\n"}
    assert json.loads(written) == json.loads(json.dumps(document.model_dump(mode="json")))


def test_tables__hostile_text_stays_in_its_cell(made: dict[str, Made]) -> None:
    for name in ("site", "study", "evaluation", "utility"):
        report = poisoned(made[name].document)
        clean, hostile = tables(made[name].document), tables(report)
        for table, frame in hostile.items():
            written = to_tsv(frame)
            assert {letter for letter in written if not letter.isprintable()} <= {"\n", "\t"}
            assert written.count("\n") == to_tsv(clean[table]).count("\n")
            assert len({line.count("\t") for line in written.splitlines()}) == 1


def test_terminal__hostile_text_writes_no_line_of_its_own(
    made: dict[str, Made], capsys: pytest.CaptureFixture[str]
) -> None:
    document = made["comparison"].document
    clean, hostile = as_text(document), as_text(poisoned(document))
    say_block(hostile)
    said = capsys.readouterr().out
    assert {letter for letter in said if not letter.isprintable()} == {"\n"}
    assert said.count("\n") == clean.count("\n") + 1
    assert max(map(len, said.splitlines())) < 3000


def test_terminal__every_command_prints_through_one_module() -> None:
    for module in Path(cli.__file__).parent.glob("*.py"):
        printed = re.findall(r"\btyper\.echo\(|\bprint\(|std(?:out|err)\.write\(", module.read_text())
        assert not printed or module.name == "printing.py", module
