"""Processes that checks in Python start on loopback, and waiting for what they do."""
import http.client
import os
import signal
import socket
import subprocess
import time

# Those that run: a check that starts some ends them all.
children = []


def start(*command, log=subprocess.DEVNULL, out=None, **more):
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out or log, stderr=log,
                               start_new_session=True, **more)
    children.append(process)
    return process


def stop(process, number=signal.SIGKILL):
    """Ends a process and its own children, also one that stands still."""
    try:
        os.killpg(process.pid, signal.SIGCONT)
        os.killpg(process.pid, number)
        process.wait(20)
    except (ProcessLookupError, subprocess.TimeoutExpired):
        pass
    if process in children:
        children.remove(process)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, holds, seconds=30):
    """Waits until something holds, and returns it. `what` is a sentence, or gives one at the end."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            value = holds()
        except (OSError, EOFError, http.client.HTTPException):
            value = None
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError("not within %g s: %s" % (seconds, what() if callable(what) else what))
