"""Calls to DingTalk, one method each. Knows no reply; how calls are made is in ``transport.py``."""

from __future__ import annotations

import logging
from hashlib import sha256
from typing import Any, Final

from integrations.dingtalk import limits
from integrations.dingtalk.crypto import card_secret
from integrations.dingtalk.opening import robot_code
from integrations.dingtalk.refusals import GATEWAY_TIMEOUT, Refused, answer_code
from integrations.dingtalk.transport import Json, Transport, as_json, refused, unknown
from integrations.errors import PlatformError
from integrations.metering import metered

logger = logging.getLogger(__name__)

ROUTE: Final = "clawdbot"
NO_ROUTE: Final = "-"
ROUTE_TRUSTED_S: Final = 86_400.0
ROUTE_REFUSED_S: Final = 600.0


class DingTalkClient(Transport):
    """DingTalk as one app sees it.

    Writing on a card, and what changes nothing, waits for its turn by itself (HeldBack). All else can become visible
    and is noted in a journal first: ask ``pace`` before that.
    """

    def send_by_session(self, url: str, body: Json, chat_id: str = "") -> None:
        """Answer in the chat that a sessionWebhook stands for. Raises Refused, OutcomeUnknown."""
        made = self._traffic.made(limits.call(self._credentials, limits.SESSION, chat_id))
        with made, metered("dingtalk", limits.SESSION):
            self._send_by_session(url, body)

    def _send_by_session(self, url: str, body: Json) -> None:
        call = "send by the chat's reply address"
        response = self._exchange("POST", url, body, call)
        answer = as_json(response)
        if response.is_success and isinstance(answer, dict) and answer.get("errcode") == 0:
            return
        if answer_code(response.status_code, answer) == GATEWAY_TIMEOUT:
            raise unknown(call)
        raise refused(call, response)

    def send_to_user(self, body: Json) -> str:
        """Send to one person; return the id of the sending. HTTP 200 can hide a refusal, in two lists."""
        call = "send to the person"
        answer = self._call("POST", "/v1.0/robot/oToMessages/batchSend", body, call)
        if answer.get("invalidStaffIdList"):
            raise Refused(
                f"DingTalk refused to {call}: it knows no such staff id", "invalidStaffIdList", permanent=True
            )
        if answer.get("flowControlledStaffIdList"):  # says nothing about other people
            raise Refused(f"DingTalk refused to {call}: too many messages to them", "flowControlledStaffIdList")
        return str(answer.get("processQueryKey", ""))

    def send_to_group(self, body: Json) -> str:
        """Send to a group; return the id of the sending."""
        answer = self._call("POST", "/v1.0/robot/groupMessages/send", body, "send to the group")
        return str(answer.get("processQueryKey", ""))

    def create_and_deliver_card(self, body: Json) -> str:
        """Put a card into a chat; return its carrier's id. HTTP 200 can hide a refusal per chat."""
        call = "deliver the card"
        result = self._call("POST", "/v1.0/card/instances/createAndDeliver", body, call).get("result")
        deliveries = result.get("deliverResults") if isinstance(result, dict) else None
        if not deliveries or not all(isinstance(d, dict) and d.get("success") is True for d in deliveries):
            raise Refused(f"DingTalk refused to {call} to this chat", "deliverResults", permanent=True)
        return str(deliveries[0].get("carrierId", ""))

    def stream_card(self, body: Json) -> None:
        """Show a text on a card. May be repeated: its ``guid`` makes a repeat harmless. Raises Refused."""
        card = str(body["outTrackId"])
        self.pace(limits.STREAM, card)
        self._call("PUT", "/v1.0/card/streaming", body, "update the card", card, repeatable=True)

    def card_route(self) -> str:
        """The route by which pressed buttons are posted to us, registered once a day; empty where there is none.

        Without one they come by the long connection, if the app has one. It never costs an answer.
        """
        url, secret = self._credentials.callback_url, card_secret(self._credentials.app_secret)
        if not url:
            return ""
        key = f"dingtalk:card-route:{self._credentials.app_id}:{sha256(f'{url} {secret}'.encode()).hexdigest()[:32]}"
        known = self._tokens.get(key)
        if known is None:
            known = self._registered(url, secret)
            self._tokens.set(key, known, ROUTE_TRUSTED_S if known != NO_ROUTE else ROUTE_REFUSED_S)
        return "" if known == NO_ROUTE else known

    def _registered(self, url: str, secret: str) -> str:
        try:
            self._register_card_route(url, secret)
        except PlatformError as problem:
            logger.warning("the address for buttons of cards was not registered", extra={"reason": str(problem)})
            return NO_ROUTE
        return ROUTE

    def _register_card_route(self, url: str, secret: str) -> None:
        body = {"callbackRouteKey": ROUTE, "callbackUrl": url, "apiSecret": secret, "forceUpdate": True}
        self.pace("register")
        self._call("POST", "/v1.0/card/callbacks/register", body, "register the address for buttons", repeatable=True)

    def download_url(self, code: str) -> str:
        """The address of a file that a person sent, good for a short time. Raises Refused."""
        call, body = "give the file", {"downloadCode": code, "robotCode": robot_code(self._credentials)}
        self.pace("download")
        url = self._call("POST", "/v1.0/robot/messageFiles/download", body, call, repeatable=True).get("downloadUrl")
        if not isinstance(url, str) or not url:
            raise Refused(f"DingTalk refused to {call}: its answer has no address", "downloadUrl", permanent=True)
        return url

    def departments_of(self, user_id: str) -> frozenset[str]:
        """The departments that a person is in, and all above them. Raises Refused."""
        call, path = "tell the person's departments", "/topapi/v2/department/listparentbyuser"
        self.pace("listparentbyuser")
        result = self._call_old(path, {"userid": user_id}, call).get("result")
        chains: Any = result.get("parent_list") if isinstance(result, dict) else None
        ids = (one for chain in chains or () if isinstance(chain, dict) for one in chain.get("parent_dept_id_list", ()))
        return frozenset(str(one) for one in ids if isinstance(one, int | str))
