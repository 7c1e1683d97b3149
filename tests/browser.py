"""A headless Chromium and what a test asks of it, over DevTools' pipe: neither a driver nor WebSockets are needed."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lakehouse.engines.runtime import cache_dir

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chromium-headless-shell")
APPLICATIONS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
PACKAGES = ("chromium-headless-shell", "fonts-dejavu-core")  # Debian's: the browser without its windows, some font
# No sandbox: root may not have one, nor may many containers, and it opens the tests' own pages only.
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
)  # fmt: skip
FONTS = """<?xml version="1.0"?><fontconfig>
<dir>{root}/usr/share/fonts</dir>
<include ignore_missing="yes">/etc/fonts/fonts.conf</include>
<include ignore_missing="yes">{root}/etc/fonts/fonts.conf</include>
</fontconfig>"""


def chromium() -> tuple[Path, Mapping[str, str]]:
    """A Chromium and the environment that it starts in: $CHROMIUM, an installed one, or Debian's, unpacked once.

    Raises RuntimeError, which says what to install.
    """
    for found in (os.environ.get("CHROMIUM"), *map(shutil.which, NAMES), *APPLICATIONS):
        if found and os.access(found, os.X_OK):
            return Path(found), os.environ
    root = cache_dir() / "chromium"
    said = "" if root.is_dir() else _unpack(root)
    program = root / "usr/lib/chromium/chromium-headless-shell"
    if os.access(program, os.X_OK):
        libraries = ":".join(map(str, [*root.glob("usr/lib/*-linux-*/"), *root.glob("usr/lib/*-linux-*/*/")]))
        return program, {**os.environ, "LD_LIBRARY_PATH": libraries, "FONTCONFIG_FILE": f"{root}/fonts.conf"}
    raise RuntimeError(
        "the page's tests need a Chromium: install it (Debian: apt-get install chromium-headless-shell; elsewhere "
        f"Chromium or Google Chrome), or name its program in CHROMIUM{said}"
    )


def _unpack(root: Path) -> str:
    """Unpack Debian's Chromium and the libraries that aren't installed as `root`, without root; else why not."""
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        return ""
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=".new-", ignore_cleanup_errors=True) as folder:
        fresh = Path(folder, "root")
        try:
            plan = _run("apt-get", "install", "--simulate", "--no-install-recommends", *PACKAGES, cwd=folder)
            needed = [line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")]
            _run("apt-get", "download", "--quiet", *needed, cwd=folder)
            for archive in Path(folder).glob("*.deb"):
                _run("dpkg", "-x", str(archive), str(fresh), cwd=folder)
            Path(fresh, "fonts.conf").write_text(FONTS.format(root=root))
            fresh.rename(root)
        except subprocess.CalledProcessError as error:
            return f"; {' '.join(error.cmd[:2])}: {error.output.strip().splitlines()[-1:]} (apt-get update may help)"
        except OSError:  # another process was faster
            if not root.is_dir():
                raise
    return ""


def _run(*command: str, cwd: str) -> str:
    return subprocess.run(
        command, cwd=cwd, check=True, timeout=300, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ).stdout


class Browser:
    """One tab, and everything that it reported: requests, console messages, exceptions."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process, self._sent, self._session = process, 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to one command; events that come before it are kept."""
        assert self._process.stdin is not None
        self._sent += 1
        order = {"id": self._sent, "method": method, "params": parameters}
        order |= {"sessionId": self._session} if self._session else {}
        self._process.stdin.write(json.dumps(order).encode() + b"\0")
        self._process.stdin.flush()
        while True:
            message = self._next()
            if message.get("id") == self._sent:
                assert "error" not in message, f"{method}: {message['error']}"
                return dict(message["result"])

    def open(self, page: Path, width: int, dark: bool = False, height: int = 900) -> None:
        """Load a page from its file and wait until it is complete."""
        self.events.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=page.as_uri())
        while not self.named("Page.loadEventFired"):
            self._next()

    def evaluate(self, expression: str) -> Any:
        """A JavaScript expression's value, as JSON has it."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self, path: Path) -> None:
        """The page as it is printed."""
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"]))

    def named(self, *methods: str) -> list[dict[str, Any]]:
        """The parameters of the events of these names since the page was opened."""
        return [event["params"] for event in self.events if event["method"] in methods]

    def _next(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        raw = bytearray()
        while (byte := self._process.stdout.read(1)) != b"\0":
            assert byte, "Chromium has gone"
            raw += byte
        message: dict[str, Any] = json.loads(raw)
        if "method" in message:
            self.events.append(message)
        return message


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless Chromium with an empty profile, for as long as the block lasts."""
    program, environment = chromium()
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        # DevTools' pipe is file descriptors 3, for commands, and 4, for answers and events.
        start = ["sh", "-c", 'exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1', str(program)]
        command = [*start, *FLAGS, f"--user-data-dir={profile}"]
        process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with process:
            try:
                yield Browser(process)
            finally:
                process.kill()
