"""What the tests share."""

import os
import sys
from pathlib import Path

import pytest

# Tests run on this source tree, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
ROOT = Path(__file__).resolve().parents[3]
if "GRATE_LIBRARY" not in os.environ and (ROOT / "target/release/libgrate.so").exists():
    os.environ["GRATE_LIBRARY"] = str(ROOT / "target/release/libgrate.so")

import grate  # noqa: E402

NEW_YEAR = 1767225600000  # 2026-01-01T00:00:00Z


def quota(limit, dimension="requests", window="minute", **more):
    if dimension != "concurrency":
        more["window"] = window
    return {"dimension": dimension, "limit": limit, **more}


def config(**quotas):
    """Providers with these quotas, the first with the highest priority, which all serve "api"."""
    return {
        "providers": [
            {"name": name, "priority": 10 - i, "quotas": own} for i, (name, own) in enumerate(quotas.items())
        ],
        "capabilities": [{"name": "api", "providers": [{"provider": name} for name in quotas]}],
    }


def pytest_terminal_summary(terminalreporter):
    done = [r for r in terminalreporter.stats.get("passed", []) if "test_conformance.py" in r.nodeid]
    if done:
        terminalreporter.write_line(f"conformance: {len(done)} scenarios")


@pytest.fixture
def clock():
    return grate.MockClock(unix_ms=NEW_YEAR)


@pytest.fixture
def engine(clock):
    """`a` has 2 requests and 1000 tokens a minute, `b` 100 requests."""
    made = config(a=[quota(2), quota(1000, "tokens")], b=[quota(100)])
    with grate.Engine(made, clock=clock) as engine:
        yield engine
