"""What to click in the platforms' consoles, for each platform and mode. The facts are in the platforms' PROTOCOL.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _

from bots.models import Endpoint
from integrations.models import Platform

WEBHOOK, STREAM = Endpoint.Mode.WEBHOOK, Endpoint.Mode.STREAM


@dataclass(frozen=True, slots=True)
class Guide:
    """``needs_address``: the webhook address above is pasted in one of the steps."""

    console: str
    steps: tuple[Any, ...]
    needs_address: bool


FEISHU_FIRST = (
    _("Open your app. Under Add Features (添加应用能力) add the Bot (机器人)."),
    _(
        "Under Permissions & Scopes (权限管理) add im:message, im:message.p2p_msg:readonly, "
        "im:message.group_at_msg:readonly, im:message:send_as_bot, im:resource and cardkit:card:write."
    ),
    _(
        "Add application:application:self_manage, so that the connection check can compare this console with "
        "ClawdBot, and contact:user.base:readonly for the names of people who are quoted."
    ),
)
FEISHU_LAST = (
    _("Add the events im.message.receive_v1 (接收消息) and im.message.recalled_v1 (撤回消息)."),
    _(
        "Add these events as well, for welcomes, the bot's menu and thumbs under answers: im.chat.member.bot.added_v1, "
        "im.chat.member.bot.deleted_v1, im.chat.disbanded_v1, im.chat.access_event.bot_p2p_chat_entered_v1, "
        "application.bot.menu_v6, im.message.reaction.created_v1 and im.message.reaction.deleted_v1."
    ),
    _(
        "Under Callback Configuration (回调配置) choose the same way as for events, and add card.action.trigger "
        "(卡片回传交互): without it the buttons of the cards show an error."
    ),
    _("Under Version Management & Release (版本管理与发布) make a version and publish it. Then write to the bot."),
)
DINGTALK_FIRST = (
    _("Open your app. Under Add Capabilities (添加应用能力) add the Robot (机器人)."),
    _("Under Permissions (权限管理) request Card.Instance.Write, Card.Streaming.Write and qyapi_robot_sendmsg."),
)
DINGTALK_LAST = (_("Publish the robot, then the app's version (版本管理与发布). Then write to the bot."),)

GUIDES: dict[tuple[str, str], Guide] = {
    (Platform.FEISHU, WEBHOOK): Guide(
        "https://open.feishu.cn/app",
        (
            *FEISHU_FIRST,
            _("Under Events & Callbacks (事件与回调), Encryption Strategy (加密策略), set an Encrypt Key. It and the "
              "Verification Token belong into the credential."),
            _("Under Event Configuration (事件配置) choose “Send to developer's server” (将事件发送至开发者服务器), "
              "paste the address from above and save. Feishu tests it at once: ClawdBot must be "
              "reachable from the internet."),
            *FEISHU_LAST,
        ),
        needs_address=True,
    ),
    (Platform.FEISHU, STREAM): Guide(
        "https://open.feishu.cn/app",
        (
            *FEISHU_FIRST,
            _("Under Events & Callbacks (事件与回调), Event Configuration (事件配置), choose “Receive events through "
              "persistent connection” (使用长连接接收事件). ClawdBot must be connected when you "
              "save; no address is needed."),
            *FEISHU_LAST,
        ),
        needs_address=False,
    ),
    (Platform.DINGTALK, WEBHOOK): Guide(
        "https://open-dev.dingtalk.com/",
        (
            *DINGTALK_FIRST,
            _("In the robot's settings choose the message receiving mode HTTP (HTTP 模式), paste the address from "
              "above and save. ClawdBot must be reachable from the internet."),
            _("Buttons on cards need no step: their address is registered by itself. Optional, to learn that the bot "
              "came into a group or lost one: under Event Subscription (事件订阅) choose HTTP push, put its token and "
              "AES key into the credential, paste the same address and save."),
            *DINGTALK_LAST,
        ),
        needs_address=True,
    ),
    (Platform.DINGTALK, STREAM): Guide(
        "https://open-dev.dingtalk.com/",
        (
            *DINGTALK_FIRST,
            _("In the robot's settings choose the message receiving mode Stream (Stream 模式). No address is needed, "
              "and ClawdBot need not be reachable from the internet."),
            *DINGTALK_LAST,
        ),
        needs_address=False,
    ),
}  # fmt: skip


def guide_for(endpoint: Endpoint) -> Guide:
    return GUIDES[endpoint.credential.platform, endpoint.mode]
