"""Logs as Weave Net prints them, or JSON lines; to stderr, one line per event."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TextIO

from weave_runtime import telemetry

TEXT = "text"
JSON = "json"

_LEVELS = {
    logging.DEBUG: "DEBU",
    logging.INFO: "INFO",
    logging.WARNING: "WARN",
    logging.ERROR: "ERRO",
    logging.CRITICAL: "FATA",
}
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# Libraries that narrate what only their authors ask about.
_QUIET = ("asyncio", "grpc", "httpx", "httpcore", "opentelemetry")
# Tells of an absent collector at each export.
_EXPORTER = "opentelemetry.exporter.otlp.proto.grpc.exporter"
_EXPORTER_PERIOD_S = 600
# Messages a rate limit remembers; the oldest go first.
_REMEMBERED = 256


def set_up(service: str, level: int, log_format: str = TEXT, stream: TextIO | None = None) -> None:
    """Sends the logs of the whole process to `stream` (stderr). Replaces what was set up before."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(service) if log_format == JSON else TextFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    # The C core of gRPC writes to stderr by itself; it reads this when it is first used.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    exporter = logging.getLogger(_EXPORTER)
    exporter.setLevel(logging.ERROR)
    exporter.addFilter(once_per(_EXPORTER_PERIOD_S))


class TextFormatter(logging.Formatter):
    """`INFO: 2026/11/23 20:47:11.123456 message key=value`, local time as Weave Net's."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created).astimezone()
        line = f"{_level(record)}: {when:%Y/%m/%d %H:%M:%S.%f} {_one_line(record.getMessage())}"
        fields = "".join(f" {key}={_quoted(value)}" for key, value in _fields(record).items())
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return f"{line}{fields}{trace}"


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (RFC 3339), level, service, message, trace_id, fields."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC)
        entry: dict[str, Any] = {
            "time": f"{when:%Y-%m-%dT%H:%M:%S.%f}Z",
            "level": record.levelname.lower(),
            "service": self._service,
            "message": record.getMessage(),
        }
        if trace_id := telemetry.trace_id():
            entry["trace_id"] = trace_id
        if fields := _fields(record):
            entry["fields"] = fields
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


class OncePer(logging.Filter):
    """Lets an identical message through once per period, then says how many it held back."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._seconds = seconds
        self._clock = clock
        self._seen: dict[tuple[str, int, str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        key = (record.name, record.levelno, record.getMessage(), str(_fields(record)))
        now = self._clock()
        since, held_back = self._seen.get(key, (-self._seconds, 0))
        if now - since < self._seconds:
            self._seen[key] = (since, held_back + 1)
            return False
        if held_back:
            record.repeated = held_back
        self._seen.pop(key, None)
        self._seen[key] = (now, 0)
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return True


def once_per(seconds: float, clock: Callable[[], float] = time.monotonic) -> OncePer:
    """Builds a filter against log storms: `log.addFilter(once_per(60))`."""
    return OncePer(seconds, clock)


def _level(record: logging.LogRecord) -> str:
    return _LEVELS.get(record.levelno, record.levelname[:4].upper())


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _one_line(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")


def _quoted(value: object) -> str:
    text = str(value)
    needs_quotes = not text or not text.isprintable() or any(mark in text for mark in ' ="')
    return json.dumps(text, ensure_ascii=False) if needs_quotes else text
