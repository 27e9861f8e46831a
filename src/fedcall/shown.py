"""Text from outside, made safe to show: in a log, in a terminal, in a message, it is one line and only its own."""

import logging

LOG_LINE_CHARACTERS = 1000


def shown(text: object, most: int = 300) -> str:
    """Return text on one line of at most `most` characters, with everything that is not printable escaped.

    Control characters could write lines of their own into a log, move a terminal's cursor or colour it; marks of
    writing direction could make a line read as another one.

    Examples
    --------
    >>> shown("north\\r\\n2026-01-01 site south: accepted\\x1b[2J")
    'north\\\\r\\\\n2026-01-01 site south: accepted\\\\x1b[2J'
    >>> shown("a" * 20, most=8)
    'aaaaaaa…'
    """
    found = str(text)
    cut = found[: most + 1]  # escaping makes it only longer
    escaped = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in cut)
    return escaped if len(found) <= most and len(escaped) <= most else escaped[: most - 1] + "…"


def shown_block(text: str) -> str:
    """Return text of several lines of ours with everything else that is not printable written as JSON writes it.

    So JSON stays the same JSON, and what it holds moves no cursor where it is printed.

    Examples
    --------
    >>> print(shown_block('{"name": "north\\u202e"}'))
    {"name": "north\\u202e"}
    """
    if text.isprintable():
        return text
    return "\n".join(
        "".join(one if one.isprintable() else _as_in_json(one) for one in line) for line in text.split("\n")
    )


def _as_in_json(character: str) -> str:
    """Return an escape of JSON: two of them, a surrogate pair, for what lies above U+FFFF."""
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))


class OneLine(logging.Formatter):
    """Formats a record as one line, whatever its arguments hold; a traceback follows with each of its lines so."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        """Return the record's line."""
        record.message = shown(record.message, LOG_LINE_CHARACTERS)
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:  # noqa: N802
        """Return the traceback, its lines bounded."""
        lines = super().formatException(ei).split("\n")  # type: ignore[arg-type]
        return "\n".join(shown(line, LOG_LINE_CHARACTERS) for line in lines)


def log_on_stderr(level: int) -> None:
    """Log with times to stderr, one line a record."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine("%(asctime)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
