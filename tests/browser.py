"""Headless Chromium over its DevTools protocol: enough to open the book's pages and ask them questions."""

import base64
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import websocket

FLAGS = [
    "--headless=new",
    "--no-sandbox",  # as root, in a container
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # the network is off
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
]


def find() -> str | None:
    """Chromium's path, or None where it is not installed."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One tab. What it asked for, and what went wrong in it, are kept until the next `open`."""

    def __init__(self, program: str):
        self.profile = tempfile.mkdtemp(prefix="vaekit-browser-")
        self.process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={self.profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port = self._wait_for_port()
        self.socket = websocket.create_connection(f"ws://127.0.0.1:{port[0]}{port[1]}", timeout=60)
        self.number, self.session, self.events = 0, None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def _wait_for_port(self) -> list[str]:
        path, deadline = Path(self.profile, "DevToolsActivePort"), time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            if path.exists() and len(lines := path.read_text().splitlines()) == 2:
                return lines
            time.sleep(0.05)
        raise RuntimeError(f"Chromium did not start (exit status {self.process.poll()})")

    def close(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait(30)
        shutil.rmtree(self.profile, ignore_errors=True)

    def call(self, method: str, **parameters):
        """One DevTools command; returns its result. Events that arrive meanwhile are kept."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        self.socket.send(json.dumps(message | ({"sessionId": self.session} if self.session else {})))
        while (answer := json.loads(self.socket.recv())).get("id") != self.number:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def evaluate(self, script: str):
        """The value of a JavaScript expression; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"].get("description", "JavaScript failed"))
        return answer["result"].get("value")

    def open(self, url: str, width: int = 1280, height: int = 900):
        """Load a page, and wait until its scripts have run, its fonts are there and its formulas are set."""
        self.resize(width, height)
        self._load("about:blank")  # so that nothing of the page before is taken for this one's
        self.events.clear()
        self._load(url)
        self.evaluate("(async () => { await document.fonts.ready; await window.MathJax?.startup?.promise; })()")

    def _load(self, url: str):
        if error := (answer := self.call("Page.navigate", url=url)).get("errorText"):
            raise RuntimeError(f"{url}: {error}")
        loaded = {"name": "load", "loaderId": answer["loaderId"]}
        while not any(loaded.items() <= event.get("params", {}).items() for event in self.events):
            self.events.append(json.loads(self.socket.recv()))

    def resize(self, width: int, height: int = 900):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def requests(self) -> list[str]:
        """Every address that the page asked for."""
        return [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]

    def errors(self) -> list[str]:
        """Exceptions, console errors, and what the browser itself logged as an error."""
        self.evaluate("1")  # so that what has happened has been told
        messages = []
        for event in self.events:
            details = event.get("params", {})
            match event.get("method"):
                case "Runtime.exceptionThrown":
                    error = details["exceptionDetails"]
                    messages.append(error.get("exception", {}).get("description") or error["text"])
                case "Runtime.consoleAPICalled" if details["type"] == "error":
                    messages.append(" ".join(str(a.get("value", a.get("description"))) for a in details["args"]))
                case "Log.entryAdded" if details["entry"]["level"] == "error":
                    messages.append(f"{details['entry']['text']} {details['entry'].get('url', '')}")
        return messages

    def screenshot(self, path: Path, whole: bool = False):
        """Write what is shown, or the whole page, as a PNG."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        Path(path).write_bytes(base64.b64decode(data))


if __name__ == "__main__":  # python tests/browser.py URL PNG [WIDTH [dark]]: look at a page
    import sys

    url, png, width, *dark = [*sys.argv[1:3], *(sys.argv[3:] or ["1280"])]
    browser = Browser(find() or sys.exit("Chromium is not installed"))
    try:
        browser.open(url, int(width))
        if dark:
            browser.evaluate("document.documentElement.dataset.theme = 'dark'")
        browser.screenshot(png, whole=True)
        print(*browser.errors(), sep="\n")
    finally:
        browser.close()
