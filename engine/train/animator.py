"""Trains the learned animator: ``visavis train animator --heads DIR [DIR ...] --dev DIR --out NAME``.

The network refines what the mesh animator draws (:mod:`engine.animators.gohd.network`). Losses: masked L1
with extra weight on mouth and eyes, a Laplacian pyramid, steps from frame to frame, adversarial and feature
matching against a discriminator that sees real clips only as the truth; with ``--likeness``, in place of the
paper's pretrained perceptual and landmark networks, what our own tracker sees (:mod:`engine.train.likeness`;
a step then looks at the whole region). The state is written every few minutes and found again by
``--resume``; the weights are an exponential mean, and the best on the dev scenes by masked L1 are kept.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.animators.gohd.network import GohdNet, compose
from engine.animators.gohd.sizes import SIZES
from engine.errors import ConfigError
from engine.train.animator_data import (
    Batch,
    HeadPairs,
    Scenes,
    augment,
    collect,
    cropped,
    rest_rows,
    unguided,
)
from engine.train.animator_device import Ahead, check_sides, compiled, device_named, moved
from engine.train.animator_losses import (
    Discriminator,
    adversarial,
    discriminate,
    matching,
    pyramid,
    temporal,
    weighted_l1,
)
from engine.train.checkpoints import load_state, save_state
from engine.train.likeness import Likeness
from engine.train.provenance import commit
from engine.weights import save_weights

__all__ = ["AnimatorTrainer", "dev_scores", "main"]

SHARES = {
    "obama": 0.22, "reagan": 0.17, "latentsync_demo1": 0.13, "grid_s1": 0.15, "photos": 0.25, "people": 0.08,
}  # fmt: skip
WEIGHTS = {
    "l1": 1.0, "pyramid": 1.0, "temporal": 0.5, "matching": 0.2, "adversarial": 0.004, "share": 0.05,
    "flow": 0.001, "judge": 0.0, "features": 0.1, "landmarks": 3.0, "units": 0.5,
}  # fmt: skip
_DECAY = 0.998
_ADVERSARY_EVERY = 2
"""The discriminator costs as much as the network: it is asked on every other step."""


class AnimatorTrainer:
    """One training run.

    Args:
        net: the network, trained in place.
        pairs: where batches come from.
        runs: runs of two frames per batch.
        rate: of Adam.
        adversary_from: step from which the discriminator counts.
        seed: of augmentation.
        crop: px of the square that a step looks at; the region's side for all of it.
        likeness: what a tracker says of the pictures, where a step looks at the whole region.
    """

    def __init__(
        self,
        net: GohdNet,
        pairs: HeadPairs,
        runs: int,
        rate: float,
        adversary_from: int,
        seed: int = 0,
        crop: int = 160,
        likeness: Likeness | None = None,
    ) -> None:
        self.crop, self.likeness = crop, likeness
        self.net, self.pairs, self.runs = net, pairs, runs
        self.device = next(net.parameters()).device
        self.ahead: Ahead | None = None
        self.judge = Discriminator().to(self.device)
        self.mean = copy.deepcopy(net).eval()
        self.optimiser = torch.optim.Adam(net.parameters(), rate, (0.5, 0.99))
        self.judging = torch.optim.Adam(self.judge.parameters(), 2.0 * rate, (0.0, 0.99))
        self.random = np.random.default_rng(seed)
        self.adversary_from = adversary_from
        self.step = 0

    def state(self) -> dict[str, object]:
        """Everything a later session needs to go on."""
        parts = ("net", "judge", "mean", "optimiser", "judging")
        return {"step": self.step, **{name: getattr(self, name).state_dict() for name in parts}}

    def restore(self, state: dict[str, object]) -> None:
        """Back from :meth:`state`."""
        self.step = int(state["step"])  # type: ignore[call-overload]
        for name in ("net", "judge", "mean", "optimiser", "judging"):
            if name in state:
                getattr(self, name).load_state_dict(state[name])

    def prefetch(self, workers: int, seed: int) -> None:
        """Make batches ahead in threads, each with randomness of its own."""

        def maker(k: int) -> Callable[[], Batch]:
            random = np.random.default_rng([seed, self.step, k])
            pairs = HeadPairs(self.pairs.scenes, SHARES, int(random.integers(2**31)))
            return lambda: rest_rows(augment(pairs.draw(self.runs), random), random, 0.04)

        self.ahead = Ahead([maker(k) for k in range(workers)], 2 * workers)

    def _batch(self) -> Batch:
        if self.ahead is not None:
            batch = moved(next(self.ahead), self.device)
        else:
            drawn = augment(self.pairs.draw(self.runs), self.random)
            batch = moved(rest_rows(drawn, self.random, 0.04), self.device)
        return batch if self.net.size.guided else unguided(batch)

    def advance(self) -> dict[str, float]:
        """One batch; the losses as numbers."""
        batch = self._batch()
        net, corner = self.net, (0, 0)
        if self.crop < net.size.side:
            batch, corner = cropped(batch, self.random, self.crop)
        with torch.autocast(self.device.type, torch.bfloat16):
            code, f2, f3, f4 = (x[batch.run] for x in net.encoder(batch.source[_firsts(batch.run)]))
            z = net.navigate(batch.window, code, batch.strength)
            flow, paint = net.refine(batch.guide, batch.grid, f2, f3, f4, z, corner)
        flow, paint = flow.float(), paint.float()
        made = compose(batch.guide, flow, paint)
        losses = {
            "l1": weighted_l1(made, batch.target, batch.weight),
            "pyramid": pyramid(made, batch.target, batch.weight),
            "temporal": temporal(made, batch.target, batch.weight, batch.follows),
            # New colour blurs what the flow keeps sharp: it is cheap on mouth and eyes, dear elsewhere.
            "share": (paint[:, 3:] * (5.5 - batch.weight).clamp(min=0.5)).mean(),
        }
        dear = torch.nn.functional.avg_pool2d((5.5 - batch.weight).clamp(min=0.5), 4)
        losses["flow"] = (flow.abs() * dear).mean()
        if self.likeness is not None and self.crop >= net.size.side:
            losses |= self.likeness(made, batch.target)
        if self.step >= self.adversary_from and self.step % _ADVERSARY_EVERY == 0:
            losses |= self._against(batch, made)
        if not net.size.guided:
            # They keep a good guide's pixels; a still one would never be left.
            del losses["share"], losses["flow"]
        total: Tensor = sum((WEIGHTS[name] * value for name, value in losses.items()), torch.zeros(()))
        if not bool(torch.isfinite(total)):
            raise FloatingPointError(f"the loss is not finite at step {self.step}: {losses}")
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimiser.step()
        self._average()
        self.step += 1
        return {name: float(value.detach()) for name, value in losses.items()}

    def _against(self, batch: Batch, made: Tensor) -> dict[str, Tensor]:
        """The discriminator's own step, then what it says of the pictures; real clips only."""
        rows = torch.nonzero(batch.real)[:, 0]
        if len(rows) == 0:
            return {}
        guide, truth, made = batch.guide[rows], batch.target[rows], made[rows]
        with torch.autocast(self.device.type, torch.bfloat16):
            real, features = self.judge(truth, guide)
            fake, _ = self.judge(made.detach(), guide)
            loss = discriminate(real.float(), fake.float())
        self.judging.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.judging.step()
        with torch.autocast(self.device.type, torch.bfloat16):
            self.judge.requires_grad_(False)
            verdict, seen = self.judge(made, guide)
            self.judge.requires_grad_(True)
        return {
            "adversarial": adversarial(verdict.float()),
            "matching": matching(seen, features),
            "judge": loss.detach(),
        }

    def _average(self) -> None:
        decay = min(_DECAY, (1.0 + self.step) / (10.0 + self.step))
        with torch.no_grad():
            for kept, new in zip(self.mean.parameters(), self.net.parameters(), strict=True):
                kept.lerp_(new, 1.0 - decay)


def _firsts(run: Tensor) -> Tensor:
    """The first row of every run."""
    return torch.searchsorted(run, torch.arange(int(run[-1]) + 1, device=run.device))


@torch.no_grad()
def dev_scores(net: GohdNet, scenes: Scenes, per_scene: int = 6) -> dict[str, float]:
    """Masked L1 and pyramid loss of the network and of its guide, mean over scenes, x 1000."""
    rows: list[list[float]] = []
    device = next(net.parameters()).device
    for scene in scenes.scenes:
        starts = scene.starts
        at = starts[np.linspace(0, len(starts) - 1, per_scene // 2).astype(int)]
        batch = moved(collect([(scene, int(k + j), j == 1) for k in at for j in (0, 1)]), device)
        batch = batch if net.size.guided else unguided(batch)
        with torch.autocast(device.type, torch.bfloat16):
            flow, paint = net(
                batch.guide, batch.grid, batch.window, *net.encoder(batch.source), batch.strength
            )
        made = compose(batch.guide, flow.float(), paint.float())
        row = []
        for picture in (made, batch.guide):
            row += [
                float(weighted_l1(picture, batch.target, batch.weight)),
                float(pyramid(picture, batch.target, batch.weight)),
                float(temporal(picture, batch.target, batch.weight, batch.follows)),
            ]
        rows.append(row)
    mean = 1000.0 * np.array(rows).mean(0)
    names = ("l1", "pyramid", "temporal", "guide_l1", "guide_pyramid", "guide_temporal")
    return {name: round(float(v), 3) for name, v in zip(names, mean, strict=True)}


def _save(name: str, trainer: AnimatorTrainer, scores: dict[str, float], args: argparse.Namespace) -> None:
    about = {
        "family": "gohd animator", "size": asdict(trainer.net.size), "steps": trainer.step, "seed": args.seed,
        "dev": scores, "commit": commit(), "shares": SHARES, "weights": WEIGHTS,
    }  # fmt: skip
    half = {k: v.half() for k, v in trainer.mean.state_dict().items()}
    half["navigation.dictionary.free"] = trainer.mean.navigation.dictionary.free.detach()
    save_weights(name, half, about)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="visavis train animator", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--heads", type=Path, nargs="+", help="folders of training scenes")
    what.add_argument(
        "--mean-of", type=Path, nargs="+", metavar="WEIGHTS",
        help="train nothing: write the mean of points of one training (engine/train/animator_mean.py)",
    )  # fmt: skip
    parser.add_argument("--dev", type=Path, required=True, help="folder of dev scenes")
    parser.add_argument("--out", default="gohd_animator", help="weights to write (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=80.0)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=4, help="runs of two frames per batch")
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--adversary-from", type=int, default=1500)
    parser.add_argument("--crop", type=int, default=160, help="px a step looks at; 256 is everything")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", choices=sorted(SIZES), default="lite", help="of the network")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=0, help="threads that make batches ahead")
    parser.add_argument("--compile", action="store_true", help="torch.compile the network")
    parser.add_argument("--shard-mib", type=float, help="keep the state in files of at most so many MiB")
    parser.add_argument("--state", type=Path, help="where the whole state is kept (default: OUT.state.pt)")
    parser.add_argument("--resume", action="store_true", help="go on from the state")
    parser.add_argument(
        "--likeness",
        action="store_true",
        help="losses of the shipped tracker; needs the whole region (--crop)",
    )
    parser.add_argument("--log", type=Path, help="JSON lines of losses and dev scores")
    parser.add_argument("--unguided", action="store_true", help="ablation: the still source as the guide")
    return parser


def likeness_of(args: argparse.Namespace, side: int) -> Likeness | None:
    """The tracker's losses where ``--likeness`` asks for them.

    Raises:
        ConfigError: a step would see only a part of the region, of ``side`` px.
    """
    if not args.likeness:
        return None
    if args.crop < side:
        raise ConfigError(f"--likeness needs the whole face: pass --crop {side}")
    return Likeness.shipped()


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    args = _parser().parse_args(argv)
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # gradients of a saturated share are mostly denormal: tenfold time
    if args.mean_of:
        from engine.train.animator_mean import write_mean

        print(json.dumps(write_mean(args.mean_of, Scenes([args.dev]), args.out)))
        return 0
    size = SIZES[args.size]
    if args.unguided:
        # It has to move the whole head by itself.
        size = replace(size, guided=False, reach=64.0, change=1.0)
    device, dev, scenes = device_named(args.device), Scenes([args.dev]), Scenes(args.heads)
    for some in (dev, scenes):
        check_sides(some, size.side)
    net = GohdNet(size).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    pairs = HeadPairs(scenes, SHARES, args.seed)
    likeness = likeness_of(args, size.side)
    if likeness is not None:
        likeness = likeness.to(device)
    trainer = AnimatorTrainer(
        net, pairs, args.runs, args.rate, args.adversary_from, args.seed, args.crop, likeness
    )
    kept = args.state or Path(f"{args.out}.state.pt")
    if args.resume and kept.exists():
        trainer.restore(load_state(kept, device))
    if args.compile:
        compiled(net.encoder, net.decoder)
    if args.workers:
        trainer.prefetch(args.workers, args.seed)
    run(trainer, dev, args, kept)
    if trainer.ahead is not None:
        trainer.ahead.close()
    return 0


def run(trainer: AnimatorTrainer, dev: Scenes, args: argparse.Namespace, kept: Path) -> None:
    """Train until ``--minutes`` or ``--steps``, scoring and writing every few minutes."""
    started, best, recent = time.monotonic(), float("inf"), list[dict[str, float]]()
    while trainer.step < args.steps:
        share = min(1.0, (time.monotonic() - started) / (60.0 * args.minutes))
        for group in trainer.optimiser.param_groups:
            group["lr"] = (
                args.rate
                * min(1.0, (trainer.step + 1) / 200)
                * (1.0 if share < 0.6 else 2.5 * (1.0 - share) + 0.02)
            )
        recent.append(trainer.advance())
        if trainer.step % 250 == 0 or share >= 1.0 or trainer.step == args.steps:
            scores = dev_scores(trainer.mean, dev)
            names = sorted({name for row in recent for name in row})
            means = {n: round(float(np.mean([r[n] for r in recent if n in r])), 5) for n in names}
            line = {"step": trainer.step, "s": round(time.monotonic() - started), **means, "dev": scores}
            print(json.dumps(line), flush=True)
            if args.log:
                with args.log.open("a") as file:
                    file.write(json.dumps(line) + "\n")
            recent = []
            save_state(trainer.state(), kept, args.shard_mib)
            score = scores["l1"] + scores["pyramid"]
            if score < best or trainer.step >= args.adversary_from:
                best = min(best, score)
                _save(args.out, trainer, scores, args)
        if share >= 1.0:
            break


if __name__ == "__main__":
    raise SystemExit(main())
