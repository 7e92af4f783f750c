"""All that the sessions of one server share: the pipeline, the engine's thread, portraits, limits."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engine.config import asset_path
from engine.errors import BudgetError, ConfigError, VisavisError
from engine.pipeline import Pipeline
from engine.recipes import build
from engine.types import Cond
from streaming.batcher import Batcher
from streaming.budget import Budget, measure_compute, plan_budget
from streaming.clock import Clock, RealClock
from streaming.framing import Compose, Framing
from streaming.options import SessionOptions
from streaming.portraits import PortraitStore
from streaming.session import Session
from streaming.shared import EnginePool, Shareable, share_network
from streaming.sources.file import FileSource
from streaming.worker import EngineWorker

__all__ = ["LIVE", "VOICES", "FullError", "Hub", "HubOptions"]

log = logging.getLogger("visavis")

_UNUSED_S = 30.0
"""A session that nobody has come to after so long is closed."""

LIVE = "live"
"""The session of those who name none."""

VOICES = {"voice_a": "Voice A", "voice_b": "Voice B"}


class FullError(VisavisError):
    """No further session can be taken now."""


@dataclass(frozen=True)
class HubOptions:
    """``portrait`` None: the bundled ones only. ``budget_ms`` is D of every session."""

    recipe: str = "default"
    portrait: Path | None = None
    budget_ms: float = 160.0
    seed: int = 0
    max_sessions: int = 4
    framing: Framing = "crop"
    linger_s: float = 5.0
    """How long a session nobody listens or speaks to is kept."""


def _promise(
    pipeline: Pipeline, cond: Cond, compose: Compose | None, budget_ms: float, rounds: int = 6
) -> Budget:
    """The budget in the best quality that meets it.

    Every quality is measured at least twice and its best time kept: code compiled on first use must not
    count against us. A refusal stands only after ``rounds`` in the cheapest, for another program may have
    been busy.

    Raises:
        BudgetError: it cannot be met in any.
    """
    refused: BudgetError | None = None
    for tier in range(pipeline.tiers):
        best = math.inf
        for attempt in range(rounds if tier + 1 == pipeline.tiers else 3):
            best = min(best, measure_compute(pipeline, cond, compose, tier=tier).quantiles().p99)
            try:
                if attempt:
                    return plan_budget(pipeline, budget_ms, best, tier)
            except BudgetError as error:
                refused = error
    assert refused is not None
    raise refused


class Hub:
    """Start it, create sessions, close it.

    Args:
        say: where the start-up report goes.
    """

    def __init__(
        self, options: HubOptions, clock: Clock | None = None, say: Callable[[str], None] = log.info
    ) -> None:
        self.options = options
        self.clock: Clock = clock or RealClock()
        self.sessions: dict[str, Session] = {}
        self._say = say
        # A GPU takes rows of several sessions together, if several threads bring them.
        self._shares = torch.cuda.is_available()
        self._worker: EngineWorker | EnginePool = (
            EnginePool(self.clock, options.max_sessions) if self._shares else EngineWorker(self.clock)
        )
        self._batcher: Batcher | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._creating = 0
        # Two who ask for the same name at once get the same session.
        self._finding = asyncio.Lock()
        self._pipeline: Pipeline | None = None
        self._budget: Budget | None = None
        self._portraits: PortraitStore | None = None

    @property
    def pipeline(self) -> Pipeline:
        assert self._pipeline is not None, "the hub has not been started"
        return self._pipeline

    @property
    def portraits(self) -> PortraitStore:
        assert self._portraits is not None, "the hub has not been started"
        return self._portraits

    @property
    def budget(self) -> Budget:
        assert self._budget is not None, "the hub has not been started"
        return self._budget

    async def start(self) -> None:
        """Load the recipe, prepare the first portrait, measure, and promise a budget.

        Raises:
            BudgetError: the budget cannot be met here.
            AssetError, InputError: something to load is missing or bad.
        """
        self._pipeline = await asyncio.to_thread(build, self.options.recipe)
        self._portraits = PortraitStore(self._pipeline, self.options.framing)
        self._portraits.add_bundled()
        if self.options.portrait is not None:
            self._portraits.add_path(self.options.portrait)
        self._say(self._pipeline.describe())
        face = await self._portraits.face(None)
        cond = Cond.for_identity(face.identity, self.options.seed)
        self._budget = await asyncio.to_thread(
            _promise, self._pipeline, cond, face.compose, self.options.budget_ms
        )
        self._say(self._budget.describe())
        animator: object = self._pipeline.animator
        if self._shares and isinstance(animator, Shareable):
            most = self.options.max_sessions
            self._batcher = await asyncio.to_thread(share_network, animator, self.clock, most)
        self._worker.start()

    async def close(self) -> None:
        await asyncio.gather(*(session.close() for session in list(self.sessions.values())))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._worker.stop)
        if self._batcher is not None:
            await asyncio.to_thread(self._batcher.close)
        if self._portraits is not None:
            self._portraits.close()

    async def create(
        self, name: str | None = None, portrait: str | None = None, seed: int | None = None
    ) -> Session:
        """A new session, not started yet; it has no user until :meth:`hold`.

        Raises:
            FullError: there are ``max_sessions`` already.
            ConfigError: the name is taken, or there is no such portrait.
        """
        name = name or secrets.token_urlsafe(9)
        if name in self.sessions:
            raise ConfigError(f"there is a session {name!r} already; choose another name")
        if len(self.sessions) + self._creating >= self.options.max_sessions:
            raise FullError(
                f"all {self.options.max_sessions} sessions are taken; try again later or raise --max-sessions"
            )
        self._creating += 1
        try:
            entry = self.portraits.get(portrait)
            face = await self.portraits.face(entry.name)
        finally:
            self._creating -= 1
        if name in self.sessions:
            raise ConfigError(f"there is a session {name!r} already; choose another name")
        cond = Cond.for_identity(face.identity, self.options.seed if seed is None else seed)
        options = SessionOptions(name, self.budget, cond, entry.name, compose=face.compose)
        session = Session(self.pipeline, self._worker, self.clock, options)
        self.sessions[name] = session
        self._spawn(self._forget_when_closed(session))
        self._spawn(self._close_if_unused(session, _UNUSED_S))
        return session

    async def find_or_create(self, name: str, portrait: str | None = None) -> Session:
        """The session of that name; a new, silent one if there is none."""
        async with self._finding:
            session = self.sessions.get(name)
            if session is not None and session.closed.is_set():
                del self.sessions[name]
                session = None
            return session or await self.create(name, portrait)

    def hold(self, session: Session) -> None:
        """Count a user (viewer or speaker) of the session."""
        session.users += 1

    def release(self, session: Session, linger_s: float | None = None) -> None:
        """One user less; a session without users is closed after ``linger_s``."""
        session.users -= 1
        if not session.users:
            delay = self.options.linger_s if linger_s is None else linger_s
            self._spawn(self._close_if_unused(session, delay))

    def voice(self, name: str) -> FileSource:
        """A bundled voice, looped. Raises ConfigError for an unknown one."""
        if name not in VOICES:
            raise ConfigError(f"no sample voice {name!r}; there are {', '.join(VOICES)}")
        return FileSource(asset_path(f"demo/{name}.wav"), loop=True)

    async def _close_if_unused(self, session: Session, delay: float) -> None:
        await asyncio.sleep(delay)
        if not session.users:
            await session.close()

    async def _forget_when_closed(self, session: Session) -> None:
        await session.closed.wait()
        if self.sessions.get(session.name) is session:
            del self.sessions[session.name]

    def _spawn(self, coroutine: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
