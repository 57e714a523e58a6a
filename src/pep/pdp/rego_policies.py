"""
Rego policies as they are loaded: modules, a data document and what is asked of them.

Imports the error tree and frozen values only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs
import orjson

from pep.errors import ConfigurationError, PDPReplyError
from pep.pdp.strict import parse_object

#: Text of one module, name → text of several, or files and folders of ``*.rego``.
Modules: TypeAlias = "str | Mapping[str, str] | Path | Iterable[Path]"

#: A JSON-like mapping, or a JSON file.
Document: TypeAlias = "Mapping[str, Any] | Path"

_QUERY: Final = re.compile(r"data(\.[A-Za-z_][A-Za-z0-9_]*)+", re.ASCII)
_PACKAGE: Final = re.compile(r"^[ \t]*package[ \t]+([\w.]+)", re.MULTILINE)

# The last names of what answers differently from one moment to the next, whatever way it is written.
_FICKLE: Final = re.compile(
    r"\b(now_ns|intn|send|rfc4122|runtime|lookup_ip_addr|decode_verify|"
    r"parse_and_verify_certificates|parse_and_verify_certificates_with_options)\b"
)


@attrs.frozen
class RegoPolicies:
    """
    What an engine is made of.

    Attributes:
        modules: Name and text of each, by name.

        data: The data document, as JSON.

        query: Which rule or package is asked, such as ``data.app.authz.allow``.
    """

    modules: tuple[tuple[str, str], ...]
    data: bytes
    query: str

    @property
    def revision(self) -> str:
        """The SHA-256 of modules and data, whatever order they came in."""
        told = orjson.dumps([self.modules, orjson.loads(self.data)], option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(told).hexdigest()

    @property
    def pure(self) -> bool:
        """Whether no module names a function of time, chance or the world outside."""
        return not any(_FICKLE.search(text) for _, text in self.modules)


def rego_policies(policies: Modules, data: Document, query: str) -> RegoPolicies:
    """
    Load policies.

    Raises:
        ConfigurationError: When there is none, a file cannot be read, the data are no JSON object, or no module can
            answer the query.
    """
    modules = tuple(sorted(_modules(policies).items()))
    _check_query(query, modules)
    return RegoPolicies(modules, _data(data), query)


def _modules(policies: object) -> dict[str, str]:
    if type(policies) is str:
        found = {"policy.rego": policies}
    elif isinstance(policies, Mapping):
        found = dict(policies)
    else:
        found = {file.as_posix(): _text(file) for path in _paths(policies) for file in _files(path)}
    if not found or any(type(part) is not str or not part for pair in found.items() for part in pair):
        message = "policies are a text of Rego, a mapping of name to text, or paths of `.rego` files and folders"
        raise ConfigurationError(message)
    return found


def _paths(policies: object) -> list[Path]:
    found = [policies] if isinstance(policies, Path) else list(policies) if isinstance(policies, Iterable) else []
    if not found or not all(isinstance(path, Path) for path in found):
        message = "policies are a text of Rego, a mapping of name to text, or `Path`s of files and folders"
        raise ConfigurationError(message)
    return found


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    # Tests of policies are policies to an engine, and are not wanted in one that decides.
    found = sorted(file for file in path.rglob("*.rego") if not file.name.endswith("_test.rego"))
    if not found:
        message = f"there is no `.rego` file in `{path.name}`"
        raise ConfigurationError(message)
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"cannot read the policy file `{file.name}`: {type(error).__name__}"
        raise ConfigurationError(message) from error


def _data(data: object) -> bytes:
    message = "the data document must be a JSON object: a mapping, or the `Path` of a JSON file"
    if not isinstance(data, (Path, Mapping)):
        raise ConfigurationError(message)
    try:
        told = _text(data).encode() if isinstance(data, Path) else orjson.dumps(data)
        return orjson.dumps(parse_object(told))
    except (PDPReplyError, orjson.JSONEncodeError) as error:
        raise ConfigurationError(message) from error


def _check_query(query: object, modules: Iterable[tuple[str, str]]) -> None:
    if type(query) is not str or not _QUERY.fullmatch(query):
        message = "a query is the path of a rule or package, such as `data.app.authz.allow`"
        raise ConfigurationError(message)
    # A misspelled path is undefined for ever, which denies everything without a word.
    if not any(_answers(query, text) for _, text in modules):
        message = f"no policy can answer `{query}`; there is no such package, or no such rule in it"
        raise ConfigurationError(message)


def _answers(query: str, text: str) -> bool:
    package = _PACKAGE.search(text)
    if package is None:
        return False
    root = f"data.{package[1]}"
    if root == query or root.startswith(f"{query}."):
        return True
    rule = query.removeprefix(f"{root}.").split(".")[0] if query.startswith(f"{root}.") else None
    return rule is not None and re.search(rf"\b{rule}\b", text[package.end() :]) is not None
