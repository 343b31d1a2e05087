"""Who may come in, and what the secrets are kept with. One file a story."""

from clawdbot_site.security.models.clients import ApiClient
from clawdbot_site.security.models.exemption import OutboundExemption
from clawdbot_site.security.models.keys import DataKey
from clawdbot_site.security.models.network import IPRule
from clawdbot_site.security.models.second_factor import RecoveryCode, SecondFactor
from clawdbot_site.security.models.tokens import RefreshToken, SigningKey
from clawdbot_site.security.models.user import Team, User

__all__ = [
    "ApiClient",
    "DataKey",
    "IPRule",
    "OutboundExemption",
    "RecoveryCode",
    "RefreshToken",
    "SecondFactor",
    "SigningKey",
    "Team",
    "User",
]
