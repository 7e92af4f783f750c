"""The command ``visavis``. Errors print one line and exit with status 2."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import runpy
import signal
import sys
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from engine.errors import ConfigError, VisavisError
from streaming.framing import FRAMINGS

if TYPE_CHECKING:  # loaded where they are used, so that --help is quick
    from streaming.hub import HubOptions
    from streaming.local import LocalOptions
    from streaming.server import ServerOptions

__all__ = ["main", "parser"]

T = TypeVar("T")

_EXAMPLES = """examples:
  visavis serve                                    the demo page on http://127.0.0.1:8080
  visavis serve --portrait me.jpg --budget-ms 120  your own face, a tighter latency
  visavis serve --host 0.0.0.0 --token SECRET      for others: http://HOST:8080/?token=SECRET
  visavis render me.jpg speech.wav -o out.mp4      a file instead of a stream
  visavis render me.jpg speech.wav -o sad.mp4 --recipe flowvq --emotion sad=0.8
  visavis prepare group.jpg -o me.avatar --face 2  analyse once, load in a moment
  visavis demo --seconds 20 --out out/demo.mp4     the whole way without a browser
  visavis track clips/ --out tracks --jobs 2       real people's motion, from video
  visavis train                                    what can be trained, and how
  visavis train osm --corpus CORPUS                one shipped file again
  visavis doctor                                   what is missing, and how to get it
"""

_SERVE_EXAMPLES = """examples:
  visavis serve --portrait me.jpg --budget-ms 120
  visavis serve --recipe osm                       a head that nods, tilts and faces you when asked
  visavis serve --recipe vast                      style of a video: on the page, or POST /api/style
  visavis serve --recipe speech,head=gohd          lips of one system, head of another
  visavis serve --host 0.0.0.0 --token SECRET      for others: http://HOST:8080/?token=SECRET
  visavis serve --play speech.wav --record out.mp4
"""

_RENDER_EXAMPLES = """examples:
  visavis render me.jpg speech.wav -o out.mp4
  visavis render me.jpg speech.wav -o plain.mp4 --animator mesh
  visavis render me.jpg speech.wav -o sad.mp4 --recipe flowvq --emotion sad=0.8 --emotion fearful=0.2
  visavis render me.jpg speech.wav -o mine.mp4 --recipe vast --style interview.mp4
  visavis render me.jpg speech.wav -o acted.mp4 --recipe pdfgc --drive pose=me.mp4 --drive expression=act.mp4
  visavis render me.jpg speech.wav -o nod.mp4 --recipe osm --set action.nod=1 --set strengthHead=1.2
"""

# Spelt out, so that --help need not load the engine; a test holds it against engine.recipes.
_RECIPES = (
    "which engine to run: default, gohd, flowvq, osm, vast, pdfgc, idle or speech, or a mixture: NAME and "
    "FACTOR=NAME for lips, head, eyes, brows, as vast,head=osm,eyes=gohd (default: %(default)s)"
)
_ANIMATORS = ("mesh", "gohd")
_ANIMATOR = (
    "what draws: gohd (the warped photo refined by a network; the default) or mesh (the warped photo alone; "
    "half the work)"
)


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["bench"]:
        return _bench(argv[1:])
    try:
        if argv[:1] in (["track"], ["train"]):
            return _hand_over(argv[0], argv[1:])
        args = parser().parse_args(argv)
        if getattr(args, "animator", None):
            args.recipe = f"{args.recipe},animator={args.animator}"
        logging.basicConfig(
            level=logging.INFO if args.verbose else logging.WARNING, format="%(levelname)s %(message)s"
        )
        return int(args.run(args))
    except VisavisError as error:
        print(f"visavis: {error}", file=sys.stderr)
        return 2
    except (PermissionError, FileNotFoundError, IsADirectoryError) as error:
        print(f"visavis: {error.strerror}: {error.filename}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"visavis: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="visavis",
        description="One portrait and a live voice become a live face at a fixed latency.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("-v", "--verbose", action="store_true", help="log what happens")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _add_serve(commands)
    _add_demo(commands)
    _add_render(commands)
    _add_prepare(commands)
    _add_sheet(commands)
    doctor = commands.add_parser("doctor", help="check this installation and say how to get what is missing")
    doctor.set_defaults(run=_doctor)
    commands.add_parser("track", help="real video to motion; `visavis track --help` has its options")
    commands.add_parser("train", help="rebuild shipped weights; `visavis train` lists them")
    commands.add_parser("bench", help="the latency benchmark; `visavis bench --help` has its options")
    return top


def _add_engine(command: argparse.ArgumentParser, budget: bool = True) -> None:
    command.add_argument("--recipe", default="default", help=_RECIPES)
    command.add_argument("--animator", choices=_ANIMATORS, help=_ANIMATOR)
    command.add_argument("--seed", type=int, default=0, help="same seed, same motion (default: %(default)s)")
    command.add_argument(
        "--framing",
        choices=FRAMINGS,
        default="crop",
        help="the face alone, or the whole picture (default: crop)",
    )
    if budget:
        command.add_argument(
            "--budget-ms",
            type=float,
            default=160.0,
            help="latency from a sample's arrival to its leaving, with its frame (default: %(default)g); "
            "refused with the smallest possible one if it cannot be met",
        )


def _add_serve(commands: Any) -> None:
    command = commands.add_parser(
        "serve",
        help="serve the page, WHEP, WHIP and WebSocket",
        epilog=_SERVE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--portrait", type=Path, help="a photo or an .avatar; shown first on the page")
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    command.add_argument("--port", type=int, default=8080, help="port to listen on (default: %(default)s)")
    command.add_argument(
        "--token", help="secret that clients must know; needed to listen beyond this machine"
    )
    # A session takes about half a core.
    most = max(2, os.cpu_count() or 2)
    command.add_argument(
        "--max-sessions", type=int, default=most, help="avatars at once (default: %(default)s)"
    )
    command.add_argument("--play", type=Path, metavar="FILE", help="speak a file, looped, in session `live`")
    command.add_argument(
        "--mic",
        nargs="?",
        const="",
        metavar="DEVICE",
        help="speak this machine's microphone in session `live` (watch it with any WHEP player)",
    )
    command.add_argument("--record", type=Path, metavar="MP4", help="record session `live`")
    command.add_argument(
        "--ice-server", action="append", default=[], metavar="URL", help="STUN or TURN server"
    )
    command.add_argument(
        "--allow-origin", action="append", default=[], metavar="URL", help="web pages elsewhere that may call"
    )
    _add_engine(command)
    command.set_defaults(run=_serve)


def _add_demo(commands: Any) -> None:
    command = commands.add_parser("demo", help="stream to a local peer without a browser, record and measure")
    command.add_argument("--seconds", type=float, default=20.0, help="how long (default: %(default)g)")
    command.add_argument(
        "--out", type=Path, default=Path("out/demo.mp4"), help="the recording (default: %(default)s)"
    )
    command.add_argument(
        "--portrait", type=Path, help="a photo or an .avatar (default: the bundled astronaut)"
    )
    command.add_argument("--voice", default="voice_a", help="bundled voice (default: %(default)s)")
    _add_engine(command)
    command.set_defaults(run=_demo)


def _add_render(commands: Any) -> None:
    command = commands.add_parser(
        "render",
        help="PHOTO + AUDIO -> MP4, the live path's pixels",
        epilog=_RENDER_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("photo", type=Path, help="a photo or an .avatar")
    command.add_argument("audio", type=Path, help="any file with sound")
    command.add_argument("-o", "--out", type=Path, required=True, help="the MP4 to write")
    command.add_argument("--face", type=int, help="which face, where there are several")
    command.add_argument(
        "--drive",
        action="append",
        default=[],
        metavar="FACTOR=CLIP",
        help="take pose, eyes, expression or lips from a driving video; may be given once per factor",
    )
    command.add_argument(
        "--emotion",
        action="append",
        default=[],
        metavar="NAME[=STRENGTH]",
        help="angry, contempt, disgusted, fearful, happy, sad or surprised, 0..1 (default: 1)",
    )
    command.add_argument(
        "--style", type=Path, metavar="VIDEO", help="speak in the style of this clip (recipes vast, flowvq)"
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any live control, as strengthHead=0.5 (docs/CONTROLS.md)",
    )
    _add_engine(command, budget=False)
    command.set_defaults(run=_render)


def _add_prepare(commands: Any) -> None:
    command = commands.add_parser("prepare", help="analyse a photo once and save an .avatar")
    command.add_argument("photo", type=Path)
    command.add_argument("-o", "--out", type=Path, required=True, help="the .avatar to write")
    command.add_argument("--face", type=int, help="which face, where there are several")
    command.add_argument("--consent", default="", metavar="TEXT", help="note on the shown person's consent")
    command.add_argument("--recipe", default="default", help=_RECIPES)
    command.add_argument("--animator", choices=_ANIMATORS, help=_ANIMATOR)
    command.set_defaults(run=_prepare)


def _add_sheet(commands: Any) -> None:
    command = commands.add_parser("sheet", help="a contact sheet of the portrait in many motions")
    command.add_argument("photo", type=Path, help="a photo or an .avatar")
    command.add_argument(
        "-o", "--out", type=Path, default=Path("sheet.png"), help="the picture (default: %(default)s)"
    )
    command.add_argument("--face", type=int, help="which face, where there are several")
    command.set_defaults(run=_sheet)


# -- commands ----------------------------------------------------------------------------------


def _serve(args: argparse.Namespace) -> int:
    from streaming.hub import HubOptions
    from streaming.local import LocalOptions
    from streaming.server import ServerOptions

    if args.play is not None and args.mic is not None:
        raise ConfigError("--play and --mic are two voices for one session; give one of them")
    if args.max_sessions < 1:
        raise ConfigError(f"--max-sessions must be at least 1, got {args.max_sessions}")
    server = ServerOptions(args.host, args.port, args.token, tuple(args.ice_server), tuple(args.allow_origin))
    hub = HubOptions(args.recipe, args.portrait, args.budget_ms, args.seed, args.max_sessions, args.framing)
    local = LocalOptions(args.play, args.mic, args.record)
    return _run_loop(_serve_forever(hub, server, local))


async def _serve_forever(hub_options: HubOptions, options: ServerOptions, local: LocalOptions) -> int:
    from aiohttp import web

    from streaming.hub import Hub
    from streaming.local import local_session
    from streaming.server import create_app

    hub = Hub(hub_options, say=_say)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner: web.AppRunner | None = None
    try:
        await hub.start()
        runner = web.AppRunner(create_app(hub, options), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, options.host, options.port).start()
        # Whatever has been loaded stays: the collector need not look at it during a stream.
        gc.freeze()
        host = f"[{options.host}]" if ":" in options.host else options.host
        _say(f"open http://{host}:{options.port}/" + ("?token=..." if options.token else ""))
        async with local_session(hub, local):
            await stop.wait()
    finally:
        if runner is not None:
            await runner.cleanup()
        await hub.close()
    return 0


def _demo(args: argparse.Namespace) -> int:
    from streaming.demo import run_demo
    from streaming.hub import HubOptions

    if not 1.0 <= args.seconds <= 24 * 3600:
        raise ConfigError(f"--seconds must be between 1 and 86400, got {args.seconds:g}")
    options = HubOptions(args.recipe, args.portrait, args.budget_ms, args.seed, framing=args.framing)
    report = _run_loop(run_demo(options, args.seconds, args.out, _say, args.voice))
    _say(report.table())
    _say(f"wrote {args.out}")
    return 0


def _render(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from engine.recipes import build
    from engine.types import CONTROLS, Cond
    from streaming.drivers import open_drivers, parse_drives
    from streaming.portraits import load_face
    from streaming.references import parse_controls, style_controls, style_of
    from streaming.render import render_file

    drives = parse_drives(args.drive)
    values = parse_controls(args.set, args.emotion)
    pipeline = build(args.recipe)
    if args.style is not None:
        values |= style_controls(style_of(pipeline, _existing(args.style)), values.get("style", 1.0))
    _existing(args.audio)
    face = load_face(pipeline, _existing(args.photo), args.face, args.framing, pixels=None)
    cond = Cond.for_identity(face.identity, args.seed)
    if drives:
        _say("following the faces of the driving clips; the first time takes a while")
    drivers = open_drivers(drives) if drives else None
    with tqdm(unit="frame", desc=args.out.name) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        frames = render_file(
            pipeline,
            cond,
            args.audio,
            args.out,
            controls=CONTROLS.row(values),
            compose=face.compose,
            progress=progress,
            drivers=drivers,
        )
    _say(f"wrote {args.out}: {frames} frames, {float(frames / pipeline.frame_rate):.2f} s")
    return 0


def _prepare(args: argparse.Namespace) -> int:
    from streaming.prepare import prepare_avatar

    _say(prepare_avatar(_existing(args.photo), args.out, args.face, args.consent, args.recipe))
    return 0


def _sheet(args: argparse.Namespace) -> int:
    from PIL import Image

    from engine.recipes import build
    from streaming.portraits import load_face

    identity = load_face(build("default"), _existing(args.photo), args.face).identity
    from engine.animators.mesh.sheet import contact_sheet

    Image.fromarray(contact_sheet(identity)).save(args.out)
    _say(f"wrote {args.out}")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from streaming.doctor import report

    return 0 if report(_say) else 1


def _hand_over(command: str, argv: list[str]) -> int:
    """Commands with a command line of their own: training tools, loaded only when asked for."""
    if command == "track":
        from engine.train.tracks import main as run
    else:
        from engine.train.catalogue import main as run
    return run(argv)


def _bench(argv: list[str]) -> int:
    """Hand over to ``benchmarks/run.py``, which lies above this package."""
    former, sys.argv = sys.argv, ["visavis bench", *argv]
    try:
        runpy.run_module("benchmarks.run", run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv = former
    return 0


# -- helpers -----------------------------------------------------------------------------------


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ConfigError(f"no file {path}")
    return path


def _say(text: str) -> None:
    print(text, flush=True)


def _run_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run on uvloop where there is one, with few threads for encoding."""
    # A thread that computes gives way after 1 ms instead of 5: deadlines are kept by the loop's thread.
    sys.setswitchinterval(0.001)
    try:
        import uvloop
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        loop = runner.get_loop()
        # Encoders take a thread each for 2-4 ms a frame; more threads than cores would only compete.
        loop.set_default_executor(ThreadPoolExecutor(max_workers=4, thread_name_prefix="encode"))
        return runner.run(work)


if __name__ == "__main__":
    sys.exit(main())
