"""Alerts of platform credentials, and group robots as a way to tell of alerts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from clawdbot_site.security.encryption import DecryptionError
from integrations import group_robots, quota, standing
from integrations.errors import PlatformError
from integrations.models import GroupRobot, PlatformCredential
from monitoring.alerting import senders
from monitoring.alerting.rules import Breach, Look, Rule, register
from monitoring.alerting.senders import Kind, Message, Send, SendingFailed
from monitoring.models import Heartbeat
from monitoring.rollups import keeping


def register_all() -> None:
    keeping.register_facts(standing.facts)
    senders.register(Kind("robot", gettext_lazy("Group robot"), _check_robot, _prepare_robot, _robots))
    register(
        Rule(
            "credential.down",
            gettext_lazy("A platform refuses a credential, or cannot be reached"),
            "platforms",
            broken_credentials,
            severity="critical",
        ),
        Rule(quota.RULE, gettext_lazy("A monthly quota of a platform is nearly used up"), "platforms"),
    )


def broken_credentials(look: Look) -> Iterator[Breach]:
    """The last call of the app failed so that all would. Without calls nobody knows, and what was known stays."""
    last = _last_outcomes()
    for credential in PlatformCredential.objects.order_by("name"):
        subject, (outcome, _at) = str(credential), last.get(str(credential.pk), ("", 0.0))
        if outcome == standing.BROKEN or (not outcome and subject in look.open_subjects):
            text = _("%(credential)s: its last call failed. See its page: Check the connection.")
            yield Breach(subject, text % {"credential": subject}, details={"credential": str(credential.pk)})


def _last_outcomes() -> dict[str, tuple[str, float]]:
    """Of all processes: credential -> (outcome, time stamp)."""
    found: dict[str, tuple[str, float]] = {}
    for facts in Heartbeat.objects.values_list("facts", flat=True):
        for pk, (outcome, at) in facts.get("apps", {}).items():
            found[pk] = max(found.get(pk, ("", 0.0)), (str(outcome), float(at)), key=lambda one: one[1])
    return found


# -- group robots --


def _robots() -> list[tuple[str, Any]]:
    return [(str(robot.pk), robot.name) for robot in GroupRobot.objects.filter(is_enabled=True)]


def _check_robot(address: str, secret: str) -> None:
    if address not in dict(_robots()):
        raise ValidationError(_("Choose a group robot that is enabled."))


def _prepare_robot(address: str, secret: str) -> Send:
    robot = GroupRobot.objects.filter(pk=address).first()
    if robot is None or not robot.is_enabled:
        raise SendingFailed(_("Its group robot is gone or switched off."), permanent=True)
    try:
        place = robot.address()
    except DecryptionError as problem:
        raise SendingFailed(_("The robot's address cannot be read: enter it again."), permanent=True) from problem
    platform = robot.platform

    def send(message: Message) -> None:
        try:
            group_robots.send(platform, place, message.title, message.text)
        except PlatformError as problem:
            raise SendingFailed(str(problem), permanent=problem.permanent) from problem

    return send
