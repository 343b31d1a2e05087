"""Who is killed in which stage, and which safeguards can be switched off. Names only."""

from __future__ import annotations

WORKER_STAGES = ("before-claim", "in-model", "after-model", "before-send", "after-send", "card-stream")
WEB_STAGES = ("before-store", "after-store")  # after-store: on disk, and its 200 not yet sent
BEAT_STAGES = ("before-sweep",)
RANDOM = "random"  # wherever it is, while messages are under way
MATRIX = {
    "web": (*WEB_STAGES, RANDOM),
    "worker": (*WORKER_STAGES, RANDOM),
    "beat": (*BEAT_STAGES, RANDOM),
    "redis": ("after-store", "before-claim", "in-model", "before-sweep", RANDOM),
    "postgres": (*WEB_STAGES, *WORKER_STAGES, *BEAT_STAGES, RANDOM),
}
EVERYWHERE = tuple((victim, stage) for victim, stages in MATRIX.items() for stage in stages)
SAFEGUARDS = ("constraint", "lease", "intent", "sweeper")
