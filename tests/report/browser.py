"""A headless Chromium, by its DevTools protocol: what a page logs, requests, measures and prints."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from tornado.websocket import WebSocketClientConnection, websocket_connect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One page of a headless Chromium that has no network.

    Args:
        folder: an empty folder for its profile.
    """

    def __init__(self, folder: Path) -> None:
        assert CHROMIUM is not None, "there is no Chromium"
        switches = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run"]
        switches += [f"--user-data-dir={folder}", "--host-resolver-rules=MAP * ~NOTFOUND", "about:blank"]
        self.process = subprocess.Popen([CHROMIUM, *switches], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.loop = asyncio.new_event_loop()
        self.numbers = itertools.count(1)
        self.events: list[dict[str, Any]] = []
        self.session: str | None = None
        try:
            self._connect(folder / "DevToolsActivePort")
        except BaseException:
            self.process.terminate()
            raise

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *error: object) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.wait(30)
        self.loop.close()

    def _connect(self, port_file: Path) -> None:
        deadline = time.monotonic() + 60
        while not (port_file.exists() and len(port_file.read_text().splitlines()) == 2):
            assert time.monotonic() < deadline, "Chromium did not start"
            time.sleep(0.1)
        port, path = port_file.read_text().splitlines()
        self.connection = self.loop.run_until_complete(_connect(f"ws://127.0.0.1:{port}{path}"))
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its result; events that come before are kept."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self.session is not None:
            message["sessionId"] = self.session
        self.loop.run_until_complete(_send(self.connection, json.dumps(message)))
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def _read(self) -> dict[str, Any]:
        answer = json.loads(self.loop.run_until_complete(_receive(self.connection)))
        if "method" in answer:
            self.events.append(answer)
        return answer

    def open(self, path: Path, *, width: int = 1280, dark: bool = False) -> None:
        """Open a page and wait until it is loaded."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._read()

    def evaluate(self, expression: str) -> Any:
        """Evaluate JavaScript in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def print(self) -> bytes:
        """Print the page as a PDF file, in the size that its style sheet asks for."""
        printed = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
        return base64.b64decode(printed["data"])

    def screenshot(self) -> bytes:
        """Take a picture of what is seen, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])

    @property
    def complaints(self) -> list[str]:
        """What the page logged, and errors of its script."""
        told = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(event["params"]) for event in self.events if event["method"] in told]

    @property
    def requests(self) -> list[str]:
        """Addresses that the page asked for, but for its own and pictures inside of it."""
        asked = [
            event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in asked if not url.startswith(("data:", "file:///"))] + [
            url for url in asked if url.startswith("file:///") and not url.endswith(".html")
        ]


# The connection belongs to the loop that runs when it is made and used.
async def _connect(url: str) -> WebSocketClientConnection:
    return await websocket_connect(url, max_message_size=2**28)


async def _send(connection: WebSocketClientConnection, text: str) -> None:
    await connection.write_message(text)


async def _receive(connection: WebSocketClientConnection) -> str:
    return str(await asyncio.wait_for(connection.read_message(), 60))
