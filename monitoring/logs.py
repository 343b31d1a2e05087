"""What a log line looks like: readable or JSON, with the request id, without secrets, on one line.

``config`` builds Django's LOGGING. Secrets are redacted on a copy of the record before anything is rendered; see
monitoring.redaction.
"""

from __future__ import annotations

import copy
import logging
from datetime import UTC, datetime
from typing import Any, Final

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from monitoring import personal, receivers, tracing
from monitoring.context import current
from monitoring.redaction import redact, redact_value
from monitoring.text import printable

# Attributes that records of Django and asyncio carry and that are no fields: whole requests, sockets, tasks.
NO_FIELDS: Final = frozenset({*RESERVED_ATTRS, "request", "socket", "taskName", "request_id", "color_message"})
# They log addresses with keys, headers, whole contexts of templates (recovery codes) or a line for each task.
QUIET: Final = (
    "asyncio",
    "celery.app.trace",
    "celery.beat",
    "celery.redirected",
    "celery.worker",
    "daphne",
    "django.channels.server",
    "django.db.backends",
    "django.server",
    "django.template",
    "httpcore",
    "httpx",
    "kombu",
    "openai",
    "twisted",
    "urllib3",
    "websockets",
)
UNKNOWN: Final = "(no known address)"
FILES: Final = {"daily": "monitoring.log_files.DailyFiles", "external": "monitoring.log_files.RotatedFile"}
LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class ConsoleFormatter(logging.Formatter):
    """``time level logger message field=value [request id]``; tracebacks indented, so that no text forges a line."""

    def __init__(self, masks_people: bool = True) -> None:
        super().__init__("%(asctime)s %(levelname)-8s %(name)s  %(message)s")
        self._people = masks_people

    def format(self, record: logging.LogRecord) -> str:
        return super().format(_clean(record, self._people))

    def formatMessage(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        request_id = getattr(record, "request_id", "")
        return f"{super().formatMessage(record)}{fields}" + (f" [{request_id}]" if request_id else "")

    def formatException(self, ei: Any) -> str:
        return _trace(super().formatException(ei), self._people)

    def formatStack(self, stack_info: str) -> str:
        return _trace(stack_info, self._people)


class RedactingJsonFormatter(JsonFormatter):
    """One JSON object a line: time (UTC), level, logger, message, request_id and the record's fields."""

    def __init__(self, masks_people: bool = True) -> None:
        self._people = masks_people
        names = {"asctime": "time", "levelname": "level", "name": "logger"}
        wanted = "%(asctime)s %(levelname)s %(name)s %(message)s %(request_id)s"
        super().__init__(wanted, rename_fields=names, json_ensure_ascii=False, reserved_attrs=[*NO_FIELDS])

    def format(self, record: logging.LogRecord) -> str:
        return str(super().format(_clean(record, self._people)))

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")

    def formatException(self, ei: Any) -> Any:
        return _hidden(str(super().formatException(ei)), self._people)

    def formatStack(self, stack_info: str) -> str:
        return _hidden(stack_info, self._people)


def config(
    format: str,
    level: str,
    directory: str | None,
    rotation: str = "daily",
    forward_to: str = "",
    *,
    masks_people: bool = True,
) -> dict[str, Any]:
    """Return LOGGING. ``format`` is ``console`` or ``json``; with a directory, files besides standard output.

    ``rotation``: ``daily`` by ourselves, or ``external`` by logrotate. ``forward_to``: a central receiver, which always
    gets JSON. Raises ValueError on an unknown word. ``masks_people``: whether personal data is taken out of what is
    logged (monitoring/personal.py).
    """
    if format not in ("console", "json") or level.upper() not in LEVELS:
        raise ValueError(f"LOG_FORMAT is console or json, LOG_LEVEL one of {', '.join(LEVELS)}.")
    if rotation not in FILES:
        raise ValueError(f"LOG_ROTATION is {' or '.join(FILES)}.")
    handlers: dict[str, Any] = {"stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}}
    if directory:
        handlers["file"] = {"class": FILES[rotation], "directory": directory}
    for handler in handlers.values():
        handler["formatter"] = format
    if forward_to:
        receivers.parse(forward_to)
        forwarding = {"class": "monitoring.log_forwarding.ForwardingHandler", "receiver": forward_to}
        handlers["forwarding"] = {**forwarding, "formatter": "json"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "console": {"()": ConsoleFormatter, "masks_people": masks_people},
            "json": {"()": RedactingJsonFormatter, "masks_people": masks_people},
        },
        "handlers": handlers,
        "root": {"level": level.upper(), "handlers": list(handlers)},
        "loggers": {
            "django": {"level": level.upper(), "handlers": [], "propagate": True},
            **{name: {"level": "WARNING", "handlers": [], "propagate": True} for name in QUIET},
        },
    }


def _clean(record: logging.LogRecord, masks_people: bool) -> logging.LogRecord:
    """Return a copy that is safe to render: other handlers keep the original."""
    safe = copy.copy(record)
    safe.args = _without_path(record)
    safe.msg, safe.args = printable(_hidden(_message(safe), masks_people)), None
    safe.exc_text = None  # somebody else's rendering may have been kept there
    safe.request_id = printable(str(getattr(record, "request_id", "") or current().request_id))
    for name, value in tracing.log_fields().items():
        setattr(safe, name, value)
    for name in vars(record).keys() - NO_FIELDS:
        value = redact_value(name, getattr(record, name))
        setattr(safe, name, _without_people(value) if masks_people else value)
    return safe


def _without_path(record: logging.LogRecord) -> Any:
    """Django's own lines name the path of a request, which may hold a key: the route instead, as in the metrics."""
    request: Any = getattr(record, "request", None)
    path, found = getattr(request, "path", None), getattr(request, "resolver_match", None)
    if not (isinstance(path, str) and isinstance(record.args, tuple)):
        return record.args
    return tuple((f"/{found.route}" if found else UNKNOWN) if arg == path else arg for arg in record.args)


def _hidden(text: str, masks_people: bool) -> str:
    text = redact(text)
    return personal.mask(text) if masks_people else text


def _without_people(value: Any) -> Any:
    """Of a field that ``redact_value`` has made plain."""
    if isinstance(value, str):
        return personal.mask(value)
    if isinstance(value, dict):
        return {name: _without_people(item) for name, item in value.items()}
    return [_without_people(item) for item in value] if isinstance(value, list) else value


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001  (wrong arguments of a log call: show the call, keep the line)
        return f"{record.msg} (unrenderable: {type(error).__name__})"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    names = vars(record).keys() - NO_FIELDS - {"message", "asctime"}
    return {name: getattr(record, name) for name in sorted(names)}


def _trace(text: str, masks_people: bool) -> str:
    return "\n".join(f"    {printable(line)}" for line in _hidden(text, masks_people).split("\n"))
