"""A million requests take no more memory than a hundred thousand."""

import gc

from conftest import config, quota

import grate

HEADERS = {"x-ratelimit-limit-requests": "1000000000", "x-ratelimit-remaining-requests": "999999999", "date": "now"}


def resident_kib():
    gc.collect()
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def test_a_million_requests():
    with grate.Engine(config(a=[quota(10**9), quota(10**12, "tokens"), quota(8, "concurrency")])) as engine:

        def run(times):
            for i in range(times):
                d = engine.acquire("api", tokens=100, explain=i % 100 == 0)
                if i % 10 == 0:
                    d.complete(http_status=200, tokens=90, headers=HEADERS)
                else:
                    engine.complete(d, http_status=200, tokens=90)

        run(100_000)
        before = resident_kib()
        run(900_000)
        assert resident_kib() - before < 4096
        assert engine.metrics().completions == 1_000_000
