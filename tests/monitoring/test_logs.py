from __future__ import annotations

import json
import logging
import logging.config
import subprocess
import sys

import pytest
from django.http import HttpRequest
from django.urls import resolve

from monitoring import logs
from monitoring.context import bind

FORMATTERS = {"console": logs.ConsoleFormatter, "json": logs.RedactingJsonFormatter}


def render(form: str, message: str, *args: object, exc_info: object = None, **extra: object) -> str:
    logger = logging.Logger("bots.intake")
    record = logger.makeRecord(logger.name, logging.INFO, "f.py", 1, message, args, exc_info, extra=extra)
    with bind(request_id="request-1"):
        return FORMATTERS[form]().format(record)


def broken() -> object:
    try:
        raise ValueError("no luck with sk-planted-planted\n2026-01-01 INFO forged")
    except ValueError:
        return sys.exc_info()


def test_a_json_line_has_time_level_logger_message_id_and_fields():
    line = json.loads(render("json", "reply %s", "delivered", message_id="m1", size=3))

    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "INFO",
        "logger": "bots.intake",
        "message": "reply delivered",
        "request_id": "request-1",
        "message_id": "m1",
        "size": 3,
    }


def test_a_console_line_is_readable():
    line = render("console", "reply delivered", message_id="m1")

    assert line.endswith("INFO     bots.intake  reply delivered message_id=m1 [request-1]")


@pytest.mark.rule("E10")
@pytest.mark.parametrize("form", FORMATTERS)
def test_no_secret_is_logged_when_message_field_or_error_holds_one(form):
    line = render(
        form,
        "POST /webhooks/feishu/planted/ %s",
        {"app_secret": "planted"},
        exc_info=broken(),
        api_key="planted",
        url="https://h/?access_token=planted",
        nested={"token": "planted"},
    )

    assert "planted" not in line
    assert "ValueError" in line


@pytest.mark.parametrize("form", FORMATTERS)
def test_no_line_is_forged_when_texts_hold_control_characters(form):
    line = render(form, "a\nb\r\x1b[31m", who="x\n2026-01-01 INFO forged\u2028")

    assert "\n" not in line
    assert "\x1b" not in line
    assert "\u2028" not in line


def test_a_traceback_is_indented_when_shown_to_people():
    lines = render("console", "failed", exc_info=broken()).split("\n")

    assert len(lines) > 2
    assert all(line.startswith("    ") for line in lines[1:])


@pytest.mark.parametrize("form", FORMATTERS)
def test_the_record_is_left_as_it_was_for_other_handlers(form):
    record = logging.makeLogRecord(
        {"msg": "token=%s", "args": ("planted",), "exc_info": broken(), "api_key": "planted"}
    )
    before = dict(vars(record))

    FORMATTERS[form]().format(record)

    assert vars(record) == before


@pytest.mark.parametrize("form", FORMATTERS)
def test_a_line_comes_out_when_the_log_call_is_wrong(form):
    assert "unrenderable: TypeError" in render(form, "%d messages", "many")


def test_requests_stay_out_when_django_attaches_them():
    assert "request" not in json.loads(render("json", "Not Found", request=object())).keys() - {"request_id"}


@pytest.mark.rule("E10")
@pytest.mark.parametrize("form", FORMATTERS)
def test_django_names_the_route_of_a_request_and_never_its_path(form):
    request = HttpRequest()
    request.path = "/admin/bots/endpoint/planted/change/"
    unknown = render(form, "%s: %s", "Not Found", request.path, request=request)
    request.resolver_match = resolve("/admin/bots/endpoint/planted/change/")
    known = render(form, "%s: %s", "Not Found", request.path, request=request)

    assert ("planted" in known, "planted" in unknown) == (False, False)
    assert "Not Found: /admin/bots/endpoint/<path:object_id>/change/" in known


@pytest.mark.rule("E10")
@pytest.mark.parametrize("form", FORMATTERS)
def test_config_is_valid_and_quiet_when_used(form, tmp_path):
    program = f"""
import logging, logging.config
from monitoring import logs
logging.config.dictConfig(logs.config({form!r}, "DEBUG", {str(tmp_path)!r}))
logging.getLogger("httpx").info("HTTP Request: POST https://h/?session=planted")
logging.getLogger("daphne.http_protocol").debug("HTTP b'GET' request")
logging.getLogger("celery.app.trace").info("Task succeeded")
logging.getLogger("django.template").debug("Exception while resolving variable in [{{'codes': ['planted']}}]")
logging.getLogger("bots").info("reply delivered")
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)

    (file,) = tmp_path.glob("clawdbot-*.log")
    assert done.stdout == file.read_text()
    assert len(done.stdout.splitlines()) == 1
    assert "reply delivered" in done.stdout


@pytest.mark.parametrize(("form", "level"), [("xml", "INFO"), ("json", "LOUD")])
def test_config_is_refused_when_format_or_level_is_unknown(form, level):
    with pytest.raises(ValueError):
        logs.config(form, level, None)
