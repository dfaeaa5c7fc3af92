"""Real HTTP servers: the three metered nginx of scripts/with-upstreams.sh, and small ones that misbehave."""

import contextlib
import signal
import socket
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from conftest import ROOT

SCRIPT = ROOT / "scripts" / "with-upstreams.sh"
# What examples-c/http/nginx.conf.in says they allow: requests per second, and burst.
LIMITS = {"gold": (20, 10), "silver": (12, 6), "bronze": (6, 3)}


def missing():
    """Why the upstreams cannot be started; None if they can."""
    if not SCRIPT.exists():
        return "this copy of the package comes without scripts/with-upstreams.sh"
    out = subprocess.run([SCRIPT, "--check"], capture_output=True, text=True)
    return out.stderr.strip() if out.returncode else None


@contextlib.contextmanager
def metered():
    """Base URLs by name, of upstreams that are rested."""
    command = [SCRIPT, "sh", "-c", 'echo "$GRATE_UPSTREAMS"; exec sleep 300']
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield dict(zip(LIMITS, process.stdout.readline().split()))
    finally:
        process.send_signal(signal.SIGTERM)
        process.stdout.close()
        process.wait(timeout=30)


def config(factor=1):
    """Providers by descending priority that serve "answer", with quotas that are wrong by a factor; 0: without."""
    providers = []
    for i, (name, (rate, burst)) in enumerate(LIMITS.items()):
        bucket = {"dimension": "requests", "limit": rate * factor, "window": "second", "strategy": "token_bucket"}
        # limit_req with "rate=R burst=B nodelay" is a bucket of B + 1.
        own = [{**bucket, "burst": (burst + 1) * factor}] if factor else []
        providers.append({"name": name, "priority": 30 - 10 * i, "cooldown_seconds": 1, "quotas": own})
    members = [{"provider": name} for name in LIMITS]
    return {"providers": providers, "capabilities": [{"name": "answer", "providers": members}]}


@contextlib.contextmanager
def server(answer):
    """A server whose `answer(handler)` writes the response; its base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.body = self.rfile.read(int(self.headers.get("content-length", 0)))
            if "transfer-encoding" in self.headers:
                while size := int(self.rfile.readline(), 16):
                    self.body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            answer(self)

        do_POST = do_GET

        def reply(self, status, body=b"", **headers):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        made.daemon_threads = True
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{made.server_port}"
        finally:
            made.shutdown()
            thread.join()


@contextlib.contextmanager
def closed_port():
    """A base URL where connections are refused: bound, so that nobody else listens there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
