"""Sends by custom group robots, for pushes and alerts. A new platform's robots are one line here."""

from __future__ import annotations

import logging
from functools import cache
from typing import Final

import httpx
from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from clawdbot_site.security.encryption import DecryptionError
from clawdbot_site.security.outbound import guarded_client
from integrations.dingtalk import robot as dingtalk
from integrations.errors import PlatformError
from integrations.feishu import robot as feishu
from integrations.models import GroupRobot
from integrations.robots import RobotAddress, RobotPlatform

logger = logging.getLogger(__name__)

PLATFORMS: Final[dict[str, RobotPlatform]] = {"dingtalk": dingtalk, "feishu": feishu}


def notify(robot: GroupRobot, title: str, text: str, *, is_markdown: bool = True) -> None:
    """Put a message into the robot's group, now. ``title`` may be empty; nobody is rung at.

    Without ``is_markdown`` the text is shown sign for sign. Takes some seconds at worst. Raises PlatformError with
    words for an admin, which the robot's page shows as well.
    """
    rows = GroupRobot.objects.filter(pk=robot.pk)
    try:
        _send(robot, title, text, is_markdown)
    except PlatformError as problem:
        rows.update(last_error=str(problem)[:500])
        logger.warning("a group robot did not send", extra={"group_robot_id": str(robot.pk), "reason": str(problem)})
        raise
    rows.update(last_error="", last_sent_at=timezone.now())


def send(platform: str, robot: RobotAddress, title: str, text: str) -> None:
    """As ``notify``, without the row: for who has read the address before. Raises PlatformError."""
    _platform(platform).send(robot, title, text, _http(), is_markdown=True)


def checked_address(platform: str, given: str) -> str:
    """What to store of the address that an admin pasted. Raises ValueError with words."""
    known = _platform(platform)
    return known.address(given, (settings.PLATFORM_URLS[platform][1], *known.ORIGINS))


def _send(robot: GroupRobot, title: str, text: str, is_markdown: bool) -> None:
    if not robot.is_enabled:
        raise PlatformError(_("This group robot is switched off."), permanent=True)
    _platform(robot.platform).send(_address(robot), title, text, _http(), is_markdown=is_markdown)


def _address(robot: GroupRobot) -> RobotAddress:
    try:
        return robot.address()
    except DecryptionError as problem:
        words = _("The stored address or secret cannot be read: bring the key back, or enter both again.")
        raise PlatformError(words, permanent=True) from problem


def _platform(name: str) -> RobotPlatform:
    """Raises ValueError for platforms that know no such robots."""
    try:
        return PLATFORMS[name]
    except KeyError:
        raise ValueError(_("This platform has no group robots.")) from None


@cache
def _http() -> httpx.Client:
    return guarded_client()
