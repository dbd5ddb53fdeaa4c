"""A headless Chromium for tests of pages, driven over its DevTools pipe: no driver, no packages. Standard library only."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Failed(RuntimeError):
    """The browser did not start, or a page did not do what was asked."""


def find():
    """The path of a Chromium, or None."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of a browser of its own. `problems`: what the console and uncaught exceptions said since `open`."""

    def __init__(self, program, seconds=30):
        self.seconds = seconds
        self.problems, self._number, self._buffer = [], 0, b""
        self._profile = tempfile.TemporaryDirectory(
            prefix="chromium-", ignore_cleanup_errors=True
        )  # its children may write still
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        command = f'exec 3<&{to_read} 4>&{to_write}; exec "$0" "$@"'  # the pipe's ends are the browser's 3 and 4
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
        options += ["--remote-debugging-pipe", "--no-first-run", f"--user-data-dir={self._profile.name}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", command, program, *options],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._session = None
        try:
            targets = self.call("Target.getTargets")["targetInfos"]
            page = next(target for target in targets if target["type"] == "page")
            attached = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
            self._session = attached["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._process.kill()
        self._process.wait()
        for end in (self._read, self._write):
            os.close(end)
        self._profile.cleanup()

    def call(self, method, **parameters):
        """One command of the DevTools protocol; its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        try:
            os.write(self._write, json.dumps(message).encode() + b"\0")
        except BrokenPipeError:
            raise Failed("the browser has ended") from None
        while True:
            answer = self._next(time.monotonic() + self.seconds)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise Failed(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def _next(self, until):
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], max(0.0, until - time.monotonic()))[0]:
                raise Failed(f"no answer of the browser within {self.seconds} s")
            found = os.read(self._read, 2**20)
            if not found:
                raise Failed("the browser has ended")
            self._buffer += found
        line, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(line)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method, said):
        if method == "Runtime.exceptionThrown":
            details = said["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
            self.problems.append(" ".join(str(each.get("value", each.get("description"))) for each in said["args"]))
        elif method == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.problems.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            url = said["request"]["url"]
            if not url.startswith(("file:", "data:", "blob:", "about:")):
                self.problems.append(f"asked for {url}")

    def look(self, width, height, dark=False):
        """Sets the size in CSS pixels and the colour scheme."""
        mobile = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, path, fragment=""):
        """Opens a file afresh; returns milliseconds until it had loaded."""
        self.problems.clear()
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=f"file://{os.path.abspath(path)}{fragment}")
        self.until(
            "document.readyState === 'complete' && location.protocol === 'file:' && performance.timing.loadEventEnd > 0"
        )
        return self.value("performance.timing.loadEventEnd - performance.timing.navigationStart")

    def value(self, expression):
        """The value of JavaScript, promises awaited."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            details = found["exceptionDetails"]
            raise Failed(f"{expression}: {details.get('exception', {}).get('description') or details['text']}")
        return found["result"].get("value")

    def until(self, expression):
        """Waits until JavaScript holds; the seconds that it took. Raises Failed where it does not come to hold."""
        begun = time.monotonic()
        while not self.value(expression):
            if time.monotonic() - begun > self.seconds:
                raise Failed(f"not within {self.seconds} s: {expression}; the console said: {self.problems}")
            time.sleep(0.02)
        return time.monotonic() - begun

    def picture(self, path, whole=False):
        """A PNG of what is seen, or of the whole page."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        with open(path, "wb") as file:
            file.write(base64.b64decode(found["data"]))
