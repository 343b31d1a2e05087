"""The fake platforms on a socket, in a process of their own: ``python -m tests.chaos.fake <record> <gateway>``.

What becomes visible is appended to the record, a JSON object a line, before the answer leaves: a caller that is killed
in between does not know what the person sees.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import IO

from tests.chaos.platforms import Answer, DingTalk, Feishu, Refusal

SLOWEST_S = 0.03


class Platforms:
    def __init__(self, record: IO[str], gateway: str) -> None:
        self._record = record
        self._feishu, self._dingtalk = Feishu(self._seen), DingTalk(self._seen, gateway)

    def _seen(self, chat: str, item: str, text: str, is_done: bool) -> None:
        line = {"at": time.monotonic(), "chat": chat, "item": item, "text": text, "done": is_done}
        self._record.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._record.flush()

    def answer(self, method: str, path: str, headers: dict[str, str], raw: bytes) -> Answer:
        body = json.loads(raw or b"{}")
        try:
            if path.startswith("/open-apis/"):
                return self._feishu.answer(method, path, headers.get("authorization", ""), body)
            return self._dingtalk.answer(method, path, headers.get("x-acs-dingtalk-access-token", ""), body)
        except Refusal as refusal:
            return refusal.answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, path, _ = head[0].split(" ")
                pairs = (line.partition(":") for line in head[1:] if line)
                headers = {name.lower(): value.strip() for name, _, value in pairs}
                raw = await reader.readexactly(int(headers.get("content-length", 0)))
                status, answer = self.answer(method, path, headers, raw)
                await asyncio.sleep(random.uniform(0, SLOWEST_S))
                content = json.dumps(answer).encode()
                start = (
                    f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
                )
                writer.write(start.encode() + content)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()  # the caller left, or was killed


async def main(record: Path, gateway: str) -> None:
    with record.open("a", encoding="utf-8") as file:
        server = await asyncio.start_server(Platforms(file, gateway).serve, "127.0.0.1", 0, backlog=512)
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.to_thread(os.read, 0, 1)  # its end is the conductor's


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
