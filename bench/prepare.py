"""Inside a site: a bot with the echo engine, and a DingTalk app in front of it. Prints the Door as JSON.

    python -m bench.prepare QUEUE

QUEUE is the worker queue of the bot's model. With one that no worker serves, messages are stored and rung for, and
nobody answers them: the door alone.
"""

from __future__ import annotations

import json
import secrets
import sys

import django

django.setup()

from bots.models import Bot, Endpoint
from inference.models import LanguageModel
from integrations.models import Platform, PlatformCredential


def main(queue: str) -> None:
    name = f"bench-{secrets.token_hex(4)}"
    model = LanguageModel.objects.create(name=name, engine=LanguageModel.Engine.ECHO, queue=queue)
    unlimited = {"rate_limit_per_user_per_minute": 0, "max_waiting": 0}
    bot = Bot.objects.create(slug=name, name=name, model=model, reply_mode=Bot.ReplyMode.TEXT, **unlimited)
    secret = secrets.token_urlsafe(32)
    app = {"app_id": name, "robot_code": name, "app_secret": secret, "corp_id": "dingbench"}
    credential = PlatformCredential.objects.create(name=name, platform=Platform.DINGTALK, **app)
    endpoint = Endpoint.objects.create(bot=bot, credential=credential, rate_limit_per_minute=0)
    path = f"/webhooks/{Platform.DINGTALK.value}/{endpoint.key}/"
    print(json.dumps({"port": 0, "path": path, "app_id": name, "secret": secret}))


if __name__ == "__main__":
    main(sys.argv[1])
