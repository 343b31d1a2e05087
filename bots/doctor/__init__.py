"""What doctor asks of the product: its workers, and the models and platforms that bots use."""

from __future__ import annotations

from bots.doctor import processes, services
from monitoring import doctor


def register() -> None:
    doctor.register("workers", processes.workers)
    doctor.register("scheduler", processes.scheduler)
    doctor.register("queues", processes.queues)
    doctor.register("models", services.models)
    doctor.register("platforms", services.platforms)
    doctor.register("connections", services.long_connections)
    doctor.register("clock", services.clocks)
