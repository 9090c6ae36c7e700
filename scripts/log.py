"""The run's log: one JSON object a line in `log.jsonl`, nothing of it on the terminal."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from pathlib import Path

import optuna


class JsonLines(logging.Formatter):
    """A log record as one line of JSON: time (UTC, ISO 8601), level, logger, message, and traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_to(path: Path) -> logging.Handler:
    """Append what every logger says, warnings of libraries included, to `path`; the caller closes the handler."""
    handler = logging.FileHandler(path, delay=True)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers = [other for other in root.handlers if not isinstance(other.formatter, JsonLines)]
    root.addHandler(handler)
    logging.getLogger("npas").setLevel(logging.INFO)
    logging.captureWarnings(True)
    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()
    return handler
