"""The rules of the ground floor: traffic, this machine, the services below all apps, the audit log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from monitoring import health, scans
from monitoring.alerting import clocks, gauges
from monitoring.alerting.rules import Breach, Look, Rule, register
from monitoring.models import Severity
from monitoring.rollups import machine
from monitoring.rollups.history import History
from monitoring.rollups.keeping import HOST

CRITICAL: Final = Severity.CRITICAL.value
FEWEST_REQUESTS: Final = 20  # below, one slow request would be the whole percentile
FEWEST_ERRORS: Final = 5
# (short window, long window, how many times faster than the budget allows, severity): Google's SRE workbook, 5.
BURNS: Final = ((5, 60, 14.4, "critical"), (30, 360, 6.0, "warning"))
SURGE_MINUTES: Final = 5
FEWEST_A_SECOND: Final = 1.0
CRITICAL_DISK: Final = 0.025
CRITICAL_SKEW_S: Final = 60.0
SCAN_S: Final = 3600.0  # while one runs, it has not ended well yet


# -- traffic --


def slow_callbacks(look: Look) -> Iterator[Breach]:
    seconds = look.history.quantile("webhook", 0.99, 5)
    if look.history.sum("webhook|count", 5) < FEWEST_REQUESTS or seconds is None:
        return
    if seconds * 1000 > look.threshold:
        text = _("Of 100 callbacks one takes longer than %(ms)d ms.") % {"ms": seconds * 1000}
        yield Breach("", text, seconds * 1000)


def server_errors(look: Look) -> Iterator[Breach]:
    """Errors use up their budget, fast (critical) or slowly. Two windows each, so that it ends when it is over."""
    budget = look.threshold / 100
    for short, long, speed, severity in BURNS:
        shares = [_error_share(look.history, minutes) for minutes in (short, long)]
        if min(shares) > speed * budget and _errors(look.history, long) >= FEWEST_ERRORS:
            text = _("%(percent).2f %% of the requests of %(minutes)d minutes ended in a server error (5xx).")
            values = {"percent": shares[0] * 100, "minutes": short}
            yield Breach("", text % values, shares[0] * 100, severity)
            return


def _errors(history: History, minutes: int) -> float:
    return sum(history.sum(f"http|{name}|5xx", minutes) for name in history.labels("http", minutes) if name != "probes")


def _error_share(history: History, minutes: int) -> float:
    names = [name for name in history.labels("http", minutes) if name != "probes"]
    requests = sum(history.sum(f"http|{name}", minutes) for name in names)
    return _errors(history, minutes) / requests if requests else 0.0


def surge(look: Look) -> Iterator[Breach]:
    """Against the same five minutes an hour ago, where anybody counted then."""
    if len(look.history.window(SURGE_MINUTES, 60)) < SURGE_MINUTES:
        return
    now = _requests(look.history) / look.history.seconds(SURGE_MINUTES)
    then = _requests(look.history, 60) / (SURGE_MINUTES * 60)
    if now > FEWEST_A_SECOND and now > then * look.threshold:
        text = _("%(now).1f requests a second; an hour ago there were %(then).1f.") % {"now": now, "then": then}
        yield Breach("", text, now, details={"an_hour_ago": round(then, 3)})


def _requests(history: History, ago: int = 0) -> float:
    names = ("webhooks", "api", "admin")
    return sum(history.sum(f"http|{name}", SURGE_MINUTES, ago) for name in names)


# -- machine --


def busy_cpu(look: Look) -> Iterator[Breach]:
    for host, share in look.history.level("cpu", 5).items():
        if share * 100 > look.threshold:
            text = _("The processors of %(host)s are busy to %(percent)d %%.")
            yield Breach(host, text % {"host": host, "percent": share * 100}, share * 100)


def full_memory(look: Look) -> Iterator[Breach]:
    for host, share in _now("memory", look, machine.memory_share()).items():
        if share * 100 > look.threshold:
            text = _("The memory of %(host)s is used to %(percent)d %%.") % {"host": host, "percent": share * 100}
            yield Breach(host, text, share * 100)


def full_disk(look: Look) -> Iterator[Breach]:
    """This machine's at this moment; other machines' as they told last."""
    found = look.history.level("disk_free", 2)
    found |= {f"{HOST}|{folder}": share for folder, share in machine.disks().items()}
    for place, share in found.items():
        if share * 100 < look.threshold:
            subject = place.replace("|", ":", 1)
            text = _("Only %(percent).1f %% of the disk of %(place)s are free.")
            severity = CRITICAL if share < CRITICAL_DISK else ""
            yield Breach(subject, text % {"percent": share * 100, "place": subject}, share * 100, severity)


def _now(name: str, look: Look, own: float | None) -> dict[str, float]:
    return look.history.level(name, 2) | ({HOST: own} if own is not None else {})


def busy_gpu(look: Look) -> Iterator[Breach]:
    for gpu, share in look.history.level("gpu", 10).items():
        if share * 100 > look.threshold:
            subject = gpu.replace("|", ":", 1)
            text = _("The GPU %(gpu)s is busy to %(percent)d %%: answers will wait.")
            yield Breach(subject, text % {"gpu": subject, "percent": share * 100}, share * 100)


def lost_gpu(look: Look) -> Iterator[Breach]:
    """A GPU that was told of in the last hour, by a machine that still tells of its processors."""
    told = look.history.level("gpu", 3)
    hosts = look.history.level("process_cpu", 3)
    for gpu in look.history.level("gpu", 60).keys() - told.keys() if hosts else ():
        subject = gpu.replace("|", ":", 1)
        yield Breach(subject, _("The GPU %(gpu)s is not seen any more.") % {"gpu": subject}, severity=CRITICAL)


def bad_scan(look: Look) -> Iterator[Breach]:
    """The weekly scan of packages and code: this machine's at this moment, other machines' as they told last."""
    for host, share in _now("scan_bad", look, float(scans.is_bad())).items():
        if share > 0.5:
            own = scans.last() if host == HOST else None
            text = own.trouble if own else _("The weekly scan of packages and code failed, or is too old.")
            yield Breach(host, f"{host}: {text} {scans.advice()}")


# -- services --


def lost_redis(look: Look) -> Iterator[Breach]:
    try:
        health.broker()
    except Exception as error:  # noqa: BLE001  (whatever it is: Redis does not answer; the text may hold its password)
        text = _("Redis cannot be reached (%(reason)s): answers begin later.") % {"reason": type(error).__name__}
        yield Breach("", text)


def wrong_clock(look: Look) -> Iterator[Breach]:
    for whose, skew_s in (("database", clocks.database_skew_s()), ("redis", clocks.redis_skew_s())):
        if skew_s is not None and abs(skew_s) > look.threshold:
            yield skewed(whose, skew_s)


def skewed(whose: str, skew_s: float) -> Breach:
    text = _("This machine's clock and that of %(whose)s differ by %(skew).1f s.") % {
        "whose": whose,
        "skew": abs(skew_s),
    }
    return Breach(whose, text, abs(skew_s), CRITICAL if abs(skew_s) > CRITICAL_SKEW_S else "")


def unsealed(look: Look) -> Iterator[Breach]:
    age_s = gauges.oldest_unsealed_s()
    if age_s > look.threshold:
        yield Breach("", _("An entry of the audit log has waited for its seal for %(s)d s.") % {"s": age_s}, age_s)


def rules() -> list[Rule]:
    return [
        Rule(
            "latency.p99",
            gettext_lazy("Callbacks are slow (99th percentile)"),
            "traffic",
            slow_callbacks,
            500,
            "ms",
            60,
        ),
        Rule(
            "http.errors", gettext_lazy("Server errors (5xx) use up their budget"), "traffic", server_errors, 0.1, "%"
        ),
        Rule(
            "traffic.surge",
            gettext_lazy("More requests than an hour ago"),
            "traffic",
            surge,
            1.5,
            gettext_lazy("times"),
            60,
        ),
        Rule("machine.cpu", gettext_lazy("Processors are busy"), "machine", busy_cpu, 70, "%", 120),
        Rule(
            "machine.memory",
            gettext_lazy("Memory is nearly used up"),
            "machine",
            full_memory,
            80,
            "%",
            60,
            needs_database=False,
        ),
        Rule(
            "machine.disk",
            gettext_lazy("Little room on a disk"),
            "machine",
            full_disk,
            10,
            gettext_lazy("percent free"),
            needs_database=False,
        ),
        Rule(
            "machine.clock",
            gettext_lazy("Clocks disagree"),
            "machine",
            wrong_clock,
            2,
            "s",
            quiet_under=("database.down",),
        ),
        Rule(
            "packages.scan",
            gettext_lazy("The scan of packages and code failed, or is too old"),
            "security",
            bad_scan,
            for_s=SCAN_S,
            severity=CRITICAL,
        ),
        Rule("gpu.busy", gettext_lazy("A GPU is busy all the time"), "machine", busy_gpu, 98, "%", 300),
        Rule("gpu.gone", gettext_lazy("A GPU has vanished"), "machine", lost_gpu, severity=CRITICAL),
        Rule("database.down", gettext_lazy("The database is away"), "services", severity=CRITICAL, for_s=10),
        Rule(
            "redis.down",
            gettext_lazy("Redis is away"),
            "services",
            lost_redis,
            for_s=10,
            severity=CRITICAL,
            needs_database=False,
        ),
        Rule(
            "audit.unsealed",
            gettext_lazy("The audit log is not sealed"),
            "security",
            unsealed,
            120,
            "s",
            severity=CRITICAL,
        ),
        Rule("audit.sink", gettext_lazy("A place takes no copies of the audit log's checkpoints"), "security"),
        Rule("audit.forwarding", gettext_lazy("A receiver takes no audit entries"), "security"),
        Rule("audit.purge", gettext_lazy("The audit log cannot be purged"), "security"),
        Rule("audit.tampered", gettext_lazy("The audit log was tampered with"), "security", severity=CRITICAL),
    ]


def register_rules() -> None:
    gauges.register()
    register(*rules())
