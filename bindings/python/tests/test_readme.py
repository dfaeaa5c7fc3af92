"""The examples of the README run as they stand."""

import re
from types import SimpleNamespace

import pytest
import upstreams
from conftest import ROOT

README = ROOT / "bindings" / "python" / "README.md"


@pytest.mark.skipif(not README.exists(), reason="skipped: this copy of the package comes without its README")
def test_examples():
    example, timeout, http, server = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    # `make demo-workers` runs it.
    assert server == (ROOT / "examples" / "servers" / "app.py").read_text(encoding="utf-8")
    answer = SimpleNamespace(status_code=200, tokens=1043, headers={"x-ratelimit-limit-requests": "60"})
    names = {"send_it_to": lambda provider: answer}
    exec(example, names)
    exec(timeout, names)
    assert names["engine"].metrics().completions == 2
    assert names["decision"].provider == "primary"

    def too_late(provider):
        raise TimeoutError

    names["send_it_to"] = too_late
    with pytest.raises(TimeoutError):
        exec(timeout, names)
    assert names["engine"].provider_state("primary").consecutive_failures == 1

    pytest.importorskip("httpx", reason="skipped: httpx is not installed")
    asked = []

    def reply(handler):
        asked.append((handler.path, handler.headers["authorization"]))
        handler.reply(200, b'{"usage": {"total_tokens": 1043}}')

    with upstreams.server(reply) as base:
        http = http.replace("https://api.primary.example", base).replace("…", "...")
        exec(http, names)
    assert asked == [("/v1/completions", "Bearer ...")]
    assert names["answer"].extensions["grate"] == {"provider": "primary", "attempts": 1}
