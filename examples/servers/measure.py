"""Starts a server, sends it requests at a steady rate, and counts what came back and what the upstreams answered.

python3 measure.py RATE SECONDS COMMAND...

The command gets the port to listen on at its end, after a colon: ... 127.0.0.1:8080. From the environment:
GRATE_UPSTREAMS_LOG, in which every line ends with a status of an upstream. Prints four numbers: requests, those that
were served, requests to the upstreams, those that were answered with 429.
"""

import http.client
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

CONNECTIONS = 16


def main():
    rate, seconds, command = float(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    port = free_port()
    # So that the server is stopped before.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    command[-1] += f":{port}"
    server = subprocess.Popen(command, stdout=sys.stderr)
    try:
        wait_for(server, port)
        log = Path(os.environ["GRATE_UPSTREAMS_LOG"])
        before = len(log.read_text().splitlines())
        statuses = send(port, rate, int(rate * seconds))
        answers = [line.split()[-1] for line in log.read_text().splitlines()[before:]]
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=20)
    print(len(statuses), statuses.count(200), len(answers), answers.count("429"))


def free_port():
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return any_port.getsockname()[1]


def wait_for(server, port):
    """Until it answers; its workers have started some time after it listens."""
    for _ in range(200):
        if server.poll() is not None:
            sys.exit(f"{server.args[0]} has ended with status {server.returncode}")
        if get(port) == 200:
            time.sleep(2)
            return
        time.sleep(0.1)
    sys.exit(f"{server.args[0]} does not answer")


def send(port, rate, total):
    """The statuses of `total` requests, each sent when it is due, or when a connection is free."""
    numbers, statuses, start = itertools.count(), [], time.monotonic()

    def connection():
        while (number := next(numbers)) < total:
            time.sleep(max(0, start + number / rate - time.monotonic()))
            statuses.append(get(port))

    threads = [threading.Thread(target=connection) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def get(port):
    """The status of an answer; None if there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/", headers={"Connection": "close"})
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


main()
