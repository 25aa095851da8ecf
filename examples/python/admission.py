#!/usr/bin/env python3
"""A service that decides who is let in: heartwheel asks it before each request.

    python3 examples/python/admission.py 9000
    heartwheel --set admission.request=http://127.0.0.1:9000/check

Devices bear the tokens below. Each publishes to its own topics and reads what is for all.
"""

import http.server
import sys

DEVICES = {"Bearer 7Jp0uX2vQd": "7", "Bearer kR4mNz8sWy": "8"}


class Service(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        device = DEVICES.get(self.headers.get("Authorization"))
        self.send_response(204 if device else 401)
        if device:
            self.send_header("Heartwheel-Identity", f"device-{device}")
            self.send_header("Heartwheel-Publish", f"devices.{device}, devices.{device}.*")
            self.send_header("Heartwheel-Subscribe", "all, commands." + device)
        self.end_headers()


with http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Service) as server:
    print("listening on port", server.server_port, flush=True)
    server.serve_forever()
