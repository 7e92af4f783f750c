"""A server as a child process: started, waited for, watched, ended."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

import psutil

from engine.errors import BudgetError, StreamError

__all__ = ["ResourceLog", "Server", "Watcher", "free_port"]


def free_port() -> int:
    """A TCP port that nothing on the loopback interface listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """``visavis serve`` (or its stamped twin) on a free port.

    Args:
        options: options of ``visavis serve``.
        log: file that takes the output.
        module: what ``python -m`` runs.

    Raises (on enter):
        BudgetError: the server refused its budget.
        StreamError: it ended or did not answer in time; the message has its last words.
    """

    def __init__(
        self,
        options: Sequence[str],
        log: Path,
        module: Sequence[str] = ("benchmarks.latency.serve",),
        patience_s: float = 180.0,
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.started_at = 0.0
        """``time.time()`` just before the process was started."""
        self.ready_s = 0.0
        """From there to the first answer."""
        self._command = [sys.executable, "-m", *module, "--port", str(self.port), *options]
        self._log_path = log
        self._log: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._patience_s = patience_s

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log_path.read_text(errors="replace")

    def __enter__(self) -> Server:
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        self._log = self._log_path.open("wb")
        self.started_at = time.time()
        self._process = subprocess.Popen(
            self._command, stdout=self._log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
        try:
            self._wait_ready()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.ready_s = time.time() - self.started_at
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._log is not None:
            self._log.close()

    def _wait_ready(self) -> None:
        assert self._process is not None
        deadline = time.time() + self._patience_s
        while time.time() < deadline:
            if self._process.poll() is not None:
                raise self._ended()
            try:
                with urllib.request.urlopen(f"{self.url}/healthz", timeout=1) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        raise StreamError(f"the server did not answer within {self._patience_s:g} s: {self._last_words()}")

    def _ended(self) -> Exception:
        words = self._last_words()
        smallest = re.search(r"use --budget-ms (\d+)", words)
        if smallest is not None:
            return BudgetError(words, int(smallest.group(1)))
        return StreamError(f"the server ended at once: {words}")

    def _last_words(self) -> str:
        lines = [line.strip() for line in self.log.splitlines() if line.strip()]
        return lines[-1].removeprefix("visavis: ") if lines else "(it said nothing)"


@dataclass
class ResourceLog:
    """One entry per second: processor use (100 = one core) and resident memory."""

    at_s: list[float] = field(default_factory=list)
    cpu_percent: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    machine_percent: list[float] = field(default_factory=list)
    """All cores of the machine together, 100 = all busy; other programs included."""


class Watcher:
    """Samples a process once a second from its own thread, from ``start`` to ``stop``."""

    def __init__(self, pid: int, period_s: float = 1.0) -> None:
        self._process = psutil.Process(pid)
        self._period_s = period_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._log = ResourceLog()

    def start(self) -> None:
        self._process.cpu_percent()
        psutil.cpu_percent()
        self._thread.start()

    def stop(self) -> ResourceLog:
        self._stopping.set()
        self._thread.join()
        return self._log

    def _run(self) -> None:
        began = time.monotonic()
        while not self._stopping.wait(self._period_s):
            try:
                cpu, rss = self._process.cpu_percent(), self._process.memory_info().rss
            except psutil.Error:  # the process has ended: what it did until then is the log
                return
            self._log.at_s.append(round(time.monotonic() - began, 2))
            self._log.cpu_percent.append(cpu)
            self._log.rss_mb.append(rss / 2**20)
            self._log.machine_percent.append(psutil.cpu_percent())
