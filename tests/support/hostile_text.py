"""Text as an attacker would write it, and documents with it in every field of text."""

import types
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

HOSTILE = (
    "</script></data><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    "\r\n2026-01-01 00:00 site south: accepted\x1b[2J\x1b]0;owned\x07\x9b31m\x00\x7f\u202egnissim\u2066\u2028\u0085"
    " $\\frac{1}$ [red]no[/red] {{ 7 * 7 }} %s \ud800 '\"& " + "x" * 20_000
)
"""Tags, line breaks, commands of a terminal, bidirectional marks, NUL, formulae, markup, half a surrogate; and long."""
LETTERS = {"ref", "alt", "reference", "bases"}
"""Fields of bases, drawn letter by letter: BAM and FASTA hold nothing but letters there."""


def poisoned(document: Any) -> Any:
    """Return a document with hostile text in every field that may hold any text, whatever its validation would say."""
    if isinstance(document, BaseModel):
        fields = type(document).model_fields
        return document.model_copy(
            update={
                name: _poisoned(getattr(document, name), field.annotation)
                for name, field in fields.items()
                if name not in LETTERS
            }
        )
    return document


def _poisoned(value: Any, annotation: Any) -> Any:
    if isinstance(value, BaseModel):
        return poisoned(value)
    if isinstance(value, str):
        return HOSTILE if _is_any_text(annotation) else value
    if isinstance(value, tuple):
        inner = get_args(annotation)
        return tuple(_poisoned(one, inner[0] if inner else str) for one in value)
    if isinstance(value, list):
        return [_poisoned(one, get_args(annotation)[0]) for one in value]
    return value


def _is_any_text(annotation: Any) -> bool:
    """Say whether the type allows any text, where a Literal allows some."""
    if get_origin(annotation) is Annotated:
        return _is_any_text(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return any(map(_is_any_text, get_args(annotation)))
    return annotation is str
