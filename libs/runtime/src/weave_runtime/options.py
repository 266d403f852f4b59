"""The options that every service has."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from weave_runtime.config import REDACTED, option


class LogFormat(enum.Enum):
    """How logs are written."""

    TEXT = "text"
    JSON = "json"


class LogLevel(enum.Enum):
    """The least severe level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def hide_password(url: str) -> str:
    """Gives a URL in a form that may be shown."""
    try:
        password = urlsplit(url).password
    except ValueError:
        # No URL at all; what stands before an @ may be meant as a password.
        return REDACTED if "@" in url else url
    return url.replace(f":{password}@", f":{REDACTED}@", 1) if password else url


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """What every service has; a service gives socket_path and state_dir its own defaults."""

    socket_path: Path = option(help="unix socket of the gRPC interface")
    socket_group: str = option("", help="group (name or number) that may use the socket")
    state_dir: Path = option(help="directory of the durable state")
    run_dir: Path = option(Path("/run/weave"), help="directory of all services' sockets")
    http_addr: str = option("", help="host:port of health, readiness and metrics; empty: off")
    log_level: LogLevel = option(LogLevel.INFO, help="least severe level that is logged")
    log_format: LogFormat = option(LogFormat.TEXT, help="form of the log lines")
    otlp_endpoint: str = option(
        "", env="OTEL_EXPORTER_OTLP_ENDPOINT", help="where traces go; empty: off"
    )
    store_url: str = option(
        "",
        help="redis://host:port/db or unix://path; empty: a file in the state directory",
        show=hide_password,
    )
