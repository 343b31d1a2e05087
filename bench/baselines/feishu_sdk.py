"""Feishu's official SDK at the same work: run by the Python of an environment that has ``lark-oapi``.

Standard input: first a line of JSON, the request and the app's secrets; then a line for each round, the number of
events. Standard output: a line for each, microseconds an event.
"""

import json
import sys
import time
from importlib.metadata import version

import lark_oapi  # type: ignore[import-not-found]  # it is in another environment


def main() -> None:
    given = json.loads(sys.stdin.readline())
    took: list = []
    handler = (
        lark_oapi.EventDispatcherHandler.builder(given["encrypt_key"], given["token"], lark_oapi.LogLevel.ERROR)
        .register_p2_im_message_receive_v1(took.append)
        .build()
    )
    request = lark_oapi.RawRequest()
    request.uri, request.body, request.headers = "/", given["body"].encode(), given["headers"]
    answer = handler.do(request)
    if answer.status_code != 200 or len(took) != 1:  # a refusal is quick, and would pass for speed
        raise SystemExit(f"the SDK refuses the event: {answer.content!r}")
    took.clear()
    print(version("lark-oapi"), flush=True)
    for line in sys.stdin:
        times = int(line)
        began = time.process_time()
        for _ in range(times):
            handler.do(request)
        took_s = time.process_time() - began
        if len(took) != times:
            raise SystemExit("the SDK did not take every event")
        print(took_s / times * 1e6, flush=True)
        took.clear()


if __name__ == "__main__":
    main()
