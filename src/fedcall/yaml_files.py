"""Read YAML files as validated documents; every error is one line that names the file, the line and the key."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from fedcall.documents import Document, describe
from fedcall.errors import FedcallError
from fedcall.files import read_text

AnyDocument = TypeVar("AnyDocument", bound=Document)


def read_yaml(path: Path, kind: type[AnyDocument], content: Mapping[str, Any] | None = None) -> AnyDocument:
    """Read a YAML file as a document of `kind`.

    Parameters
    ----------
    path : Path
        The file.
    kind : type of document
        What the file must hold.
    content : mapping, optional
        Values to validate instead of the file's own, for example the file's values with changes from a command line;
        `path` then only serves to say where a value is.

    Raises
    ------
    FedcallError
        If the file is missing, is not YAML, or breaks a rule; names file, line, key, value and what is allowed.
    """
    path = Path(path)
    text, loaded = _load(path)
    values = loaded if content is None else content
    if not isinstance(values, Mapping):
        raise FedcallError(f"{path}: a mapping of keys to values expected, found {type(values).__name__}")
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        location = error.errors()[0]["loc"]
        keys = [part for part in location if isinstance(part, str)]
        raise FedcallError(f"{place(path, keys, text)}: {describe(error)}") from None


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file as the mapping it holds, before any rule.

    Raises
    ------
    FedcallError
        If the file is missing, is not YAML, or holds something else.
    """
    path = Path(path)
    _, loaded = _load(path)
    if not isinstance(loaded, Mapping):
        raise FedcallError(f"{path}: a mapping of keys to values expected, found {type(loaded).__name__}")
    return dict(loaded)


def place(path: Path, keys: Sequence[str], text: str | None = None) -> str:
    """Return `path:line` of a nested key, or of its deepest parent that the file has, or `path` alone."""
    line = _line_of(read_text(path) if text is None else text, keys)
    return f"{path}:{line}" if line else f"{path}"


def _load(path: Path) -> tuple[str, Any]:
    try:
        text = read_text(path)
        return text, yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else f"{path}"
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        raise FedcallError(f"{where}: not YAML ({reason})") from None


def _line_of(text: str, keys: Sequence[str]) -> int | None:
    node, line = yaml.compose(text, Loader=yaml.SafeLoader), None
    for key in keys:
        if not isinstance(node, yaml.MappingNode):
            break
        for name, value in node.value:
            if name.value == key:
                node, line = value, name.start_mark.line + 1
                break
        else:
            break
    return line
