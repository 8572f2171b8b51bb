"""A stand-in for the Hub: the few addresses that `huggingface_hub` calls to make a repository and to commit a folder."""

import base64
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OID = "1" * 40


class Hub(ThreadingHTTPServer):
    """What was made and sent: `repositories` (name -> what was asked for), `files` (path -> bytes), `tokens`, `paths`."""

    daemon_threads = True

    def __init__(self, token, large=()):
        super().__init__(("127.0.0.1", 0), Handler)
        self.token, self.large = token, tuple(large)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.repositories, self.files, self.stored, self.paths, self.commits = {}, {}, {}, [], []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _answer(self, content, status=200):
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().strip(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_PUT(self):
        self.server.stored[self.path.rsplit("/", 1)[1]] = self._body()
        self._answer({})

    def do_GET(self):
        self.server.paths.append(self.path)
        self._answer({"sha": OID, "id": "me/data", "siblings": [], "private": False, "tags": []})

    def do_HEAD(self):
        self._answer({})

    def do_POST(self):
        hub, body = self.server, self._body()
        hub.paths.append(self.path)
        path = self.path.partition("?")[0]
        if path != "/api/validate-yaml" and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._answer({"error": "Invalid credentials"}, 401)
        elif path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            hub.repositories[name] = asked
            self._answer({"url": f"{hub.url}/{name}", "name": name})
        elif path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = json.loads(body)["files"]
            self._answer({"files": [self._mode(file["path"]) for file in files], "commitOid": OID})
        elif path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**each, "actions": {"upload": {"href": f"{hub.url}/store/{each['oid']}"}}}
                for each in json.loads(body)["objects"]
            ]
            self._answer({"transfer": "basic", "objects": objects})
        elif "/commit/" in path:
            self._commit(body)
        else:
            self._answer({"error": f"unknown: {path}"}, 404)

    def _mode(self, path):
        large = path.endswith(self.server.large) if self.server.large else False
        return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": None}

    def _commit(self, body):
        hub = self.server
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                hub.commits.append(value["summary"])
            elif entry["key"] == "file":
                hub.files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                hub.files[value["path"]] = hub.stored[value["oid"]]
        self._answer({"commitUrl": f"{hub.url}/datasets/me/data/commit/{OID}", "commitOid": OID, "success": True})


@contextmanager
def stand_in(token, large=()):
    """A Hub on loopback that knows one token; files whose names end with one of `large` are sent apart."""
    hub = Hub(token, large)
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
