"""What a configuration file can say of apps on the platforms and of group robots."""

from __future__ import annotations

from integrations.models import GroupRobot, PlatformCredential
from monitoring.configuration.kinds import Kind, register

register(
    Kind(
        "credentials",
        PlatformCredential,
        key=("name",),
        fields=(
            "platform",
            "team",
            "app_id",
            "app_secret",
            "verification_token",
            "encrypt_key",
            "allow_unsigned",
            "robot_code",
            "corp_id",
            "base_url",
            "card_template_id",
            "monthly_api_quota",
            "monthly_webhook_quota",
        ),
        refers={"team": "teams"},
        secrets=PlatformCredential.SECRETS,
    ),
    Kind(
        "group_robots",
        GroupRobot,
        key=("name",),
        fields=("platform", "team", "webhook_url", "signing_secret", "is_enabled"),
        refers={"team": "teams"},
        secrets=GroupRobot.SECRETS,
    ),
)
