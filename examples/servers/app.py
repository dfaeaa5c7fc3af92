import os
from pathlib import Path

import grate
import grate.httpx
import httpx

engine = grate.Engine(Path("config.json").read_text(), state_path=os.environ.get("STATE_PATH"))
upstreams = dict(zip(("gold", "silver", "bronze"), os.environ["GRATE_UPSTREAMS"].split()))
transport = grate.httpx.Transport(engine, "answer", upstreams, max_wait_secs=2)
client = httpx.Client(mounts={"http://answer": transport})


def app(environ, start_response):
    try:
        answer = client.get("http://answer/v1/answer")
    except grate.NoAvailableProviders as none:
        start_response("503 Service Unavailable", [("content-type", "text/plain")])
        return [str(none).encode()]
    start_response(f"{answer.status_code} {answer.reason_phrase}", [("content-type", "application/json")])
    return [answer.content]
