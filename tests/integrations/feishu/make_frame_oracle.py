"""Makes frame_oracle.json with the frame codec of Feishu's official SDK, so that tests need no SDK.

Run where lark-oapi 1.7.5 is installed, which is no dependency of this project:
``python make_frame_oracle.py > frame_oracle.json``. The seed is fixed: the file comes out the same. It was
chosen so that no number is longer than 64 bits: the SDK cuts those, we refuse them (test_hostile_frame_is_refused).
"""

from __future__ import annotations

import json
import random
import re
from typing import Any

from lark_oapi.ws.pb.google.protobuf.message import DecodeError
from lark_oapi.ws.pb.pbbp2_pb2 import Frame

OPTIONAL = {"payload_encoding": "payload_encoding", "payload_type": "payload_type", "LogIDNew": "log_id_new"}
WORDS = ["", "type", "event", "message_id", "长连接", "👍", "x" * 130, "\x00", "gzip"]
LARGE = [0, 1, 127, 128, 2**31 - 1, 2**32, 2**53 + 1, 2**63, 2**64 - 1]
SMALL = [0, 1, 127, 128, 33554678, 2**31 - 1, -1, -(2**31)]


def random_frame(dice: random.Random) -> Any:
    frame = Frame()
    frame.SeqID, frame.LogID = dice.choice(LARGE), dice.choice(LARGE)
    frame.service, frame.method = dice.choice(SMALL), dice.choice(SMALL)
    for _ in range(dice.randrange(6)):
        frame.headers.add(key=dice.choice(WORDS), value=dice.choice(WORDS))
    for name in OPTIONAL:
        if dice.random() < 0.5:
            setattr(frame, name, dice.choice(WORDS))
    if dice.random() < 0.8:
        frame.payload = dice.randbytes(dice.choice([0, 1, 127, 128]))
    return frame


def fields(frame: Any) -> dict[str, Any]:
    read = {"seq_id": frame.SeqID, "log_id": frame.LogID, "service": frame.service, "method": frame.method}
    read["headers"] = [[header.key, header.value] for header in frame.headers]
    read |= {ours: getattr(frame, name) if frame.HasField(name) else None for name, ours in OPTIONAL.items()}
    return read | {"payload_hex": frame.payload.hex() if frame.HasField("payload") else None}


def verdict(data: bytes) -> dict[str, Any] | None:
    """What the SDK reads, None where it refuses or a required field is missing."""
    frame = Frame()
    try:
        frame.ParseFromString(data)
    except (DecodeError, UnicodeDecodeError):
        return None
    return fields(frame) if frame.IsInitialized() else None


def damaged(data: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(data))
    return dice.choice(
        [data[:at], data[:at] + dice.randbytes(1) + data[at + 1 :], data[:at] + dice.randbytes(2) + data[at:]]
    )


def main() -> None:
    dice = random.Random(1)
    whole = [random_frame(dice) for _ in range(40)]
    broken = [damaged(random_frame(dice).SerializeToString(), dice) for _ in range(100)]
    content = {
        "about": "Made by make_frame_oracle.py with the codec of lark-oapi 1.7.5. fields: null where the SDK refuses.",
        "frames": [{"hex": frame.SerializeToString().hex(), "fields": fields(frame)} for frame in whole],
        "damaged": [{"hex": data.hex(), "fields": verdict(data)} for data in broken],
    }
    print(re.sub(r"\n {3,}", " ", json.dumps(content, indent=1)))


if __name__ == "__main__":
    main()
