"""A viewer in a process of its own, to be killed: ``python -m tests.streaming.vanishing_peer URL``."""

from __future__ import annotations

import asyncio
import sys

from streaming.demo import Caller


async def main(url: str) -> None:
    caller = Caller()
    print(await caller.call(url, {"source": "sample:voice_a"}), flush=True)
    await asyncio.sleep(3600)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
