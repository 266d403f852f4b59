"""Options of a service: one declaration gives flag, environment name and field.

    @dataclass(frozen=True, kw_only=True)
    class Config(CommonOptions):
        conn_limit: int = option(30, env="CONN_LIMIT", help="most links of this peer")

The flag is `--conn-limit`; without `env=` the environment name is WEAVE_CONN_LIMIT. A flag wins
over the environment, which wins over the default; an empty environment value counts as not set.
"""

from __future__ import annotations

import dataclasses
import enum
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

C = TypeVar("C")
REQUIRED: Any = dataclasses.MISSING
REDACTED = "<redacted>"
EXIT_STATUS = 2

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}
_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}
_DURATION = re.compile(r"(?:(?:\d+(?:\.\d+)?)(?:h|ms|us|m|s))+")


class ConfigError(Exception):
    """One sentence for the user: which option, where its value came from, what is expected."""


def option(
    default: Any = REQUIRED,
    *,
    help: str,  # noqa: A002 - reads as the user sees it
    env: str = "",
    parse: Callable[[str], Any] | None = None,
    show: Callable[[Any], str] | None = None,
    secret: bool = False,
    positional: bool = False,
) -> Any:
    """Declares an option as a dataclass field.

    `parse` turns text into one value (for a `tuple` field: into one element) and raises ValueError
    with what it expects; plain types need none. A secret has no flag of its own but `--name-file`.
    One `tuple` option may be `positional`: it also takes the words that belong to no flag.
    """
    spec = _Spec(help, env, parse, (lambda _: REDACTED) if secret else show, secret, positional)
    return dataclasses.field(default=default, repr=not spec.show, metadata={_Spec: spec})


def parse_int(text: str) -> int:
    """Reads a whole number."""
    try:
        return int(text)
    except ValueError:
        raise ValueError("expected a whole number") from None


def parse_count(text: str) -> int:
    """Reads a whole number of at least 0."""
    if (number := parse_int(text)) < 0:
        raise ValueError("expected a whole number of at least 0")
    return number


def parse_bool(text: str) -> bool:
    """Reads 1, true, yes, on and their opposites."""
    if (word := text.lower()) not in _TRUE | _FALSE:
        raise ValueError("expected true or false")
    return word in _TRUE


def parse_duration(text: str) -> timedelta:
    """Reads "250ms", "60s", "1m30s", "2h"."""
    if not _DURATION.fullmatch(text):
        raise ValueError('expected a duration, "250ms", "60s" or "1m30s"')
    parts = re.findall(r"([\d.]+)(h|ms|us|m|s)", text)
    return timedelta(seconds=sum(float(number) * _UNITS_S[unit] for number, unit in parts))


def load(config_class: type[C], argv: Sequence[str], environ: Mapping[str, str]) -> C:
    """Reads the options of a process. `argv` is without the program's name. Raises ConfigError."""
    options = {item.name: item for item in _options(config_class)}
    given = _flags(argv, options.values())
    values = {}
    for name, item in options.items():
        texts, source = given.get(name, []), f"flag {item.flag}"
        if not texts and environ.get(item.env):
            texts, source = [environ[item.env]], f"environment {item.env}"
        if texts:
            values[name] = item.read(texts, source)
        elif item.default is REQUIRED:
            raise ConfigError(f"option {item.label} is required: set {item.flag} or {item.env}")
    try:
        return config_class(**values)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def load_or_exit(
    config_class: type[C], argv: Sequence[str], environ: Mapping[str, str], *, prog: str
) -> C:
    """Reads the options; `--help` and mistakes end the process with status 0 and 2."""
    if "--help" in argv or "-h" in argv:
        sys.stdout.write(usage(config_class, prog))
        raise SystemExit(0)
    try:
        return load(config_class, argv, environ)
    except ConfigError as error:
        sys.stderr.write(f"{prog}: {error}\n")
        raise SystemExit(EXIT_STATUS) from None


def describe(config: Any) -> str:
    """Lists what differs from the defaults: `map[conn-limit:8 password:<redacted>]`."""
    changed = {
        item.label: item.text_of(getattr(config, item.name))
        for item in _options(type(config))
        if getattr(config, item.name) != item.default
    }
    return f"map[{' '.join(f'{label}:{changed[label]}' for label in sorted(changed))}]"


def usage(config_class: type[Any], prog: str) -> str:
    """Gives the text of `--help`."""
    lines = [f"Usage: {prog} [options]\n"]
    for item in _options(config_class):
        lines += [f"  {item.flag} ({item.env})", f"        {item.spec.help}{item.expectation}"]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class _Spec:
    help: str
    env: str
    parse: Callable[[str], Any] | None
    show: Callable[[Any], str] | None
    secret: bool
    positional: bool


@dataclass(frozen=True, slots=True)
class _Option:
    name: str
    kind: Any
    default: Any
    spec: _Spec

    @property
    def label(self) -> str:
        return self.name.replace("_", "-")

    @property
    def flag(self) -> str:
        return f"--{self.label}-file" if self.spec.secret else f"--{self.label}"

    @property
    def env(self) -> str:
        return self.spec.env or f"WEAVE_{self.name.upper()}"

    @property
    def expectation(self) -> str:
        """What `--help` says of values: `[text, json; default text]`."""
        is_choice = isinstance(self.kind, type) and issubclass(self.kind, enum.Enum)
        parts = [", ".join(str(member.value) for member in self.kind)] if is_choice else []
        if self.default is REQUIRED:
            parts.append("required")
        elif self.default not in ("", (), None):
            parts.append(f"default {self.text_of(self.default)}")
        return f" [{'; '.join(parts)}]" if parts else ""

    def read(self, texts: Sequence[str], source: str) -> Any:
        if self.spec.secret and source.startswith("flag"):
            try:
                texts = [Path(texts[-1]).read_text(encoding="utf-8").rstrip("\r\n")]
            except (OSError, ValueError) as error:
                raise ConfigError(f"option {self.label}: {source}: {error}") from error
        elif self._hides_any(texts) and source.startswith("flag"):
            raise ConfigError(
                f"option {self.label}: every user of this machine can read a password in an"
                f" argument: set {self.env} in the environment instead"
            )
        if typing.get_origin(self.kind) is not tuple:
            return self._parsed(texts[-1], source)
        words = [word for text in texts for word in re.split(r"[,\s]+", text) if word]
        return tuple(self._parsed(word, source) for word in words)

    def _hides_any(self, texts: Sequence[str]) -> bool:
        return any(
            self.spec.show is not None and REDACTED in self.spec.show(text) for text in texts
        )

    def _parsed(self, text: str, source: str) -> Any:
        try:
            return (self.spec.parse or _parser_of(self.kind))(text)
        except ValueError as error:
            quoted = f'"{text}"' if text.isprintable() else ascii(text)
            shown = self.spec.show(text) if self.spec.show else quoted
            raise ConfigError(f"option {self.label}: {source} is {shown}: {error}") from error

    def text_of(self, value: Any) -> str:
        if self.spec.show:
            return self.spec.show(value)
        if isinstance(value, tuple):
            return f"[{' '.join(map(str, value))}]"
        if isinstance(value, timedelta):
            return f"{value.total_seconds():g}s"
        text = str(value.value if isinstance(value, enum.Enum) else value)
        return text.lower() if isinstance(value, bool) else text


def _options(config_class: type[Any]) -> list[_Option]:
    kinds = typing.get_type_hints(config_class)
    return [
        _Option(field.name, kinds[field.name], field.default, field.metadata[_Spec])
        for field in dataclasses.fields(config_class)
        if _Spec in field.metadata
    ]


def _parser_of(kind: Any) -> Callable[[str], Any]:
    if typing.get_origin(kind) in (tuple, types.UnionType):
        kind = next(part for part in typing.get_args(kind) if part is not types.NoneType)
    if issubclass(kind, enum.Enum):
        return lambda text: _parse_enum(kind, text)
    # Any other type reads its own text: str, Path, ip_network.
    parsers: dict[Any, Callable[[str], Any]] = {bool: parse_bool, int: parse_int}
    parsers[timedelta] = parse_duration
    reads: Callable[[str], Any] = parsers.get(kind, kind)
    return reads


def _parse_enum(kind: type[enum.Enum], text: str) -> enum.Enum:
    try:
        return kind(text.lower())
    except ValueError:
        expected = ", ".join(str(member.value) for member in kind)
        raise ValueError(f"expected one of {expected}") from None


def _flags(argv: Sequence[str], options: Iterable[_Option]) -> dict[str, list[str]]:
    by_flag = {item.flag: item for item in options}
    positional = next((item.name for item in by_flag.values() if item.spec.positional), None)
    given: dict[str, list[str]] = {}
    rest = iter(argv)
    for word in rest:
        flag, has_value, value = word.partition("=")
        if not word.startswith("-") and positional:
            given.setdefault(positional, []).append(word)
            continue
        if not word.startswith("--"):
            raise ConfigError(f'unexpected argument "{word}"')
        if flag not in by_flag:
            raise ConfigError(f"unknown flag {flag}")
        item = by_flag[flag]
        if not has_value and item.kind is bool:
            value = "true"
        elif not has_value:
            try:
                value = next(rest)
            except StopIteration:
                raise ConfigError(f"flag {flag} needs a value") from None
        given.setdefault(item.name, []).append(value)
    return given
