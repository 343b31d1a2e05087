"""What a decision about an address costs, however many network rules there are.

    python -m bench.ip_rules [--quick] [--out FOLDER]

Compiled rules and addresses in memory; no database, no Django. Times are CPU times, so that neighbours disturb little.
"""

from __future__ import annotations

import argparse
import gc
import ipaddress
import json
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from clawdbot_site.security.ip_rules import Rule, RuleSet, compile

REPORTS = Path(__file__).resolve().parents[1] / "docs" / "benchmarks"
TRIALS = Path(__file__).resolve().parents[1] / "var" / "bench"
SIZES = (0, 100, 10_000, 100_000)
WANTED_US = 20.0
ADDRESSES = 20_000
ROUNDS = 5
V4_LENGTHS, V6_LENGTHS = (16, 20, 22, 24, 28, 32), (32, 40, 48, 56, 64, 128)


@dataclass(frozen=True, slots=True)
class Row:
    rules: int
    build_s: float
    decision_us: float  # the median round's mean
    worst_us: float  # the 99.9th percentile of single decisions
    naive_us: float  # a scan over all rules with ``ipaddress``


def main(words: Sequence[str]) -> None:
    given = _arguments(words)
    rounds, addresses = (2, 2_000) if given.quick else (ROUNDS, ADDRESSES)
    rows = [measure(size, rounds, addresses) for size in SIZES]
    folder = given.out or (TRIALS if given.quick else REPORTS)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ip-rules.json").write_text(json.dumps(_facts(rows), indent=2) + "\n")
    (folder / "ip-rules.md").write_text(_page(rows))
    for row in rows:
        print(f"{row.rules:>7} rules: built in {row.build_s:.3f} s, {row.decision_us:.2f} us a decision")
    worst = max(row.decision_us for row in rows)
    print(f"{'reached' if worst < WANTED_US else 'missed'}: {worst:.2f} us a decision (wanted: under {WANTED_US:.0f})")


def measure(size: int, rounds: int, addresses: int) -> Row:
    rng = random.Random(size)  # noqa: S311  (figures, not secrets)
    rules = [_rule(rng, number) for number in range(size)]
    gc.collect()
    began = time.process_time()
    compiled = compile(rules)
    build_s = time.process_time() - began
    visitors = [_visitor(rng, rules) for _ in range(addresses)]
    means = [_mean_us(lambda address: compiled.decide(address, "api"), visitors) for _ in range(rounds)]
    return Row(size, build_s, statistics.median(means), _worst_us(compiled, visitors), _naive_us(rules, visitors[:20]))


def _rule(rng: random.Random, number: int) -> Rule:
    """Of every length that lists of bad networks have; a fifth is IPv6."""
    if rng.random() < 0.2:
        length, address = rng.choice(V6_LENGTHS), ipaddress.IPv6Address(0x2000 << 112 | rng.getrandbits(112))
        network: object = ipaddress.IPv6Network((int(address), length), strict=False)
    else:
        network = ipaddress.IPv4Network((rng.getrandbits(32), rng.choice(V4_LENGTHS)), strict=False)
    return Rule(str(number), "block", str(network), rng.choice(("site", "site", "api", "admin", "webhooks")))


def _visitor(rng: random.Random, rules: Sequence[Rule]) -> str:
    """Half of them out of a rule's network, the others from anywhere."""
    if rules and rng.random() < 0.5:
        network = ipaddress.ip_network(rng.choice(rules).network)
        return str(network[rng.randrange(min(network.num_addresses, 2**32))])
    return str(ipaddress.IPv4Address(rng.getrandbits(32)))


def _mean_us(decide: Callable[[str], object], visitors: Sequence[str]) -> float:
    began = time.process_time()
    for address in visitors:
        decide(address)
    return (time.process_time() - began) / len(visitors) * 1e6


def _worst_us(compiled: RuleSet, visitors: Sequence[str]) -> float:
    took = []
    for address in visitors:
        began = time.perf_counter()
        compiled.decide(address, "api")
        took.append(time.perf_counter() - began)
    return sorted(took)[int(len(took) * 0.999)] * 1e6


def _naive_us(rules: Sequence[Rule], visitors: Sequence[str]) -> float:
    networks = [ipaddress.ip_network(rule.network) for rule in rules]

    def scan(address: str) -> bool:
        parsed = ipaddress.ip_address(address)
        return any(parsed in network for network in networks)

    return _mean_us(scan, visitors)


# -- the report --


def _facts(rows: Sequence[Row]) -> dict[str, object]:
    machine = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return {"when": when, **machine, "wanted_us": WANTED_US, "rows": [asdict(row) for row in rows]}


def _page(rows: Sequence[Row]) -> str:
    lines = [
        "# Network rules",
        "",
        "What one decision costs (`clawdbot_site/security/ip_rules.py`), for half addresses that a rule holds and half",
        "from anywhere; a fifth of the rules is IPv6, prefixes of all usual lengths. A look-up costs one dictionary",
        "access per prefix length in use, so it hardly grows with the number of rules. The scan is the oracle of the",
        "tests: all rules, one by one. CPU times, but for the 99.9 %, which have the machine's pauses in them.",
        "Repeat it: `python -m bench.ip_rules`.",
        "",
        f"Wanted: under {WANTED_US:.0f} µs a decision with 100,000 rules.",
        "",
        "| rules | built in | a decision | 99.9 % within | a scan of all |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        costs = f"{row.decision_us:.2f} µs | {row.worst_us:.1f} µs | {row.naive_us:,.0f} µs"
        lines.append(f"| {row.rules:,} | {row.build_s:.3f} s | {costs} |")
    facts = _facts(rows)
    return "\n".join([*lines, "", f"Python {facts['python']} on {facts['machine']}, {facts['when']}.", ""])


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.ip_rules", description="The cost of network rules.")
    parser.add_argument("--quick", action="store_true", help="a second; written below var/bench")
    parser.add_argument("--out", type=Path, help="the folder of the report")
    return parser.parse_args(words)


if __name__ == "__main__":
    main(sys.argv[1:])
