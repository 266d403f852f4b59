"""Log lines: Weave's text form, JSON, rate limit."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from weave_runtime import logs


@pytest.fixture(autouse=True)
def _restored_root() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def lines_of(log_format: str, *, level: int = logging.DEBUG) -> io.StringIO:
    stream = io.StringIO()
    logs.set_up("tester", level, log_format, stream)
    return stream


@pytest.mark.parametrize(
    ("level", "word"),
    [
        (logging.DEBUG, "DEBU"),
        (logging.INFO, "INFO"),
        (logging.WARNING, "WARN"),
        (logging.ERROR, "ERRO"),
        (logging.CRITICAL, "FATA"),
    ],
)
def test_text_line_has_the_form_of_weave_net(level: int, word: str) -> None:
    stream = lines_of(logs.TEXT)

    logging.getLogger("x").log(level, "something happened")

    pattern = rf"{word}: \d{{4}}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{{6}} something happened\n"
    assert re.fullmatch(pattern, stream.getvalue())


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (5, "5"),
        ("plain", "plain"),
        ("two words", '"two words"'),
        ("", '""'),
        ('say "x"', r'"say \"x\""'),
        ("a=b", '"a=b"'),
        ("line\nbreak", r'"line\nbreak"'),
    ],
)
def test_fields_are_appended_to_a_text_line(value: Any, shown: str) -> None:
    stream = lines_of(logs.TEXT)

    logging.getLogger("x").info("done", extra={"field": value})

    assert stream.getvalue().endswith(f" done field={shown}\n")


def test_message_cannot_forge_a_second_line() -> None:
    stream = lines_of(logs.TEXT)

    logging.getLogger("x").info("a\nINFO: b\r")

    assert stream.getvalue().endswith(r"a\nINFO: b\r" + "\n")
    assert stream.getvalue().count("\n") == 1


def test_traceback_follows_the_text_line() -> None:
    stream = lines_of(logs.TEXT)

    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("x").exception("failed", extra={"n": 1})

    first, *_, last = stream.getvalue().splitlines()
    assert first.endswith("failed n=1")
    assert last == "ValueError: broken"


def test_json_line_is_one_object() -> None:
    stream = lines_of(logs.JSON)

    logging.getLogger("x").warning("half of %d done", 4, extra={"peer": "a\nb", "n": 2})

    entry = json.loads(stream.getvalue())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", entry.pop("time"))
    assert entry == {
        "level": "warning",
        "service": "tester",
        "message": "half of 4 done",
        "fields": {"peer": "a\nb", "n": 2},
    }


def test_json_line_carries_the_traceback() -> None:
    stream = lines_of(logs.JSON)

    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("x").exception("failed")

    assert json.loads(stream.getvalue())["exception"].endswith("ValueError: broken")


def test_level_holds_back_less_severe_lines() -> None:
    stream = lines_of(logs.TEXT, level=logging.WARNING)

    logging.getLogger("x").info("not shown")

    assert stream.getvalue() == ""


def test_libraries_do_not_narrate() -> None:
    stream = lines_of(logs.TEXT)

    logging.getLogger("grpc._cython").info("poller chosen")

    assert stream.getvalue() == ""


def test_absent_collector_is_told_once() -> None:
    stream = lines_of(logs.TEXT)

    for _ in range(3):
        logging.getLogger("opentelemetry.exporter.otlp.proto.grpc.exporter").error("failed")

    assert stream.getvalue().count("failed") == 1


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_identical_message_passes_once_per_period() -> None:
    stream, clock = lines_of(logs.TEXT), Clock()
    log = logging.getLogger("limited")
    limit = logs.once_per(60, clock)
    log.addFilter(limit)

    for _ in range(3):
        log.info("again", extra={"n": 1})
    log.info("again", extra={"n": 2})
    clock.now += 60
    log.info("again", extra={"n": 1})

    log.removeFilter(limit)
    shown = [line.split(" ", 3)[3] for line in stream.getvalue().splitlines()]
    assert shown == ["again n=1", "again n=2", "again n=1 repeated=2"]


def test_rate_limit_remembers_a_bounded_number_of_messages() -> None:
    limit = logs.once_per(60, Clock())

    for n in range(1000):
        limit.filter(logging.makeLogRecord({"msg": "x", "n": n}))

    assert len(limit._seen) == 256
