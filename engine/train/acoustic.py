"""Train the acoustic model of the PPG encoder.

Crops of four seconds are strung together from random utterances with pauses between them,
disturbed (:mod:`engine.train.augment`), and turned to normalised log-mel by the very code that
runs live. The loss is cross-entropy on phones; a side head makes the hidden code predict phones
and the clean spectrum, so that it carries what lips need.

Usage::

    python -m engine.train.speech_data --data CORPORA --out FOLDER
    python -m engine.train.acoustic --data FOLDER --out engine/assets/ppg.safetensors
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.encoders.acoustic import HALVES, HIDDEN, MEL, AcousticModel
from engine.encoders.mel_input import normalised_mel
from engine.encoders.phones import PHONES, SILENCE, UNKNOWN
from engine.train import augment
from engine.train.provenance import commit
from engine.train.speech_data import HOP, Corpus, Item
from engine.weights import load_weights, save_weights

__all__ = ["Batch", "Sampler", "evaluate", "train"]

_FRAMES = 100
_SHARES = {"librispeech": 0.36, "kerstin_de": 0.12, "emodb_de": 0.08, "picovoice_wakewords_en": 0.05,
           "speech_commands_en": 0.05, "ljspeech_en": 0.05, "vctk_en": 0.06, "speechbrain_samples_en": 0.01,
           "synthetic": 0.22}  # fmt: skip


@dataclass(frozen=True)
class Batch:
    """``mel`` [B, 4T, M], ``clean`` [B, T, 40] target spectrum, ``labels`` int64 [B, T, 4] of frame t."""

    mel: Tensor
    clean: Tensor
    labels: Tensor


class Sampler:
    """Random training crops, the same ones for the same (seed, step)."""

    def __init__(self, corpus: Corpus, batch: int, seed: int) -> None:
        self.corpus, self.batch, self.seed = corpus, batch, seed
        self.items: dict[str, list[Item]] = {}
        for item in corpus.items:
            if item.split == "train" and np.mean(corpus.phones(item) != UNKNOWN) > 0.5:
                self.items.setdefault(item.corpus, []).append(item)
        shares = np.array([_SHARES.get(name, 0.02) for name in self.items])
        self.names, self.shares = list(self.items), shares / shares.sum()
        self.weights = {name: self._lengths(items) for name, items in self.items.items()}

    @staticmethod
    def _lengths(items: list[Item]) -> NDArray[np.float64]:
        lengths = np.array([item.frames for item in items], float)
        return np.asarray(lengths / lengths.sum())

    def __call__(self, step: int) -> Batch:
        noise = np.random.default_rng([self.seed, step])
        crops = [self._crop(noise) for _ in range(self.batch)]
        clean = normalised_mel(np.stack([crop[1] for crop in crops]))
        bands = clean.reshape(len(crops), _FRAMES, 4, -1).mean(2)
        pooled = nn.functional.adaptive_avg_pool1d(bands, 20)
        following = torch.cat([pooled[:, 1:], pooled[:, -1:]], dim=1)
        labels = torch.from_numpy(np.stack([crop[2] for crop in crops]).astype(np.int64))
        return Batch(
            normalised_mel(np.stack([crop[0] for crop in crops])),
            torch.cat([pooled, following], dim=2),
            labels.reshape(len(crops), _FRAMES, 4),
        )

    def _crop(self, noise: np.random.Generator) -> tuple[augment.Floats, augment.Floats, NDArray[np.int8]]:
        clean, labels = self._string(noise)
        if noise.random() < 0.08:
            clean = augment.whisper(clean, noise)
        dirty = clean
        if noise.random() < 0.8:
            dirty = augment.channel(dirty, noise)
        if noise.random() < 0.65:
            other, _ = self._string(noise)
            dirty = augment.add_noise(dirty, other, noise)
        if noise.random() < 0.1:
            dirty = augment.mu_law(dirty)
        return augment.gain(dirty, noise), clean, labels

    def _string(self, noise: np.random.Generator) -> tuple[augment.Floats, NDArray[np.int8]]:
        """Utterances and pauses in turn until the crop is full."""
        want = _FRAMES * 4
        samples = np.zeros(want * HOP, np.float32)
        labels = np.full(want, SILENCE, np.int8)
        at = int(noise.integers(0, 60)) if noise.random() < 0.5 else 0
        while at < want:
            speech, phones = self._utterance(noise)
            count = min(len(phones), want - at)
            samples[at * HOP : (at + count) * HOP] = speech[: count * HOP]
            labels[at : at + count] = phones[:count]
            at += count + (int(noise.integers(10, 120)) if noise.random() < 0.5 else 0)
        return samples, labels

    def _utterance(self, noise: np.random.Generator) -> tuple[augment.Floats, NDArray[np.int8]]:
        name = str(noise.choice(self.names, p=self.shares))
        item = self.items[name][int(noise.choice(len(self.items[name]), p=self.weights[name]))]
        samples, labels = self.corpus.samples(item), self.corpus.phones(item)
        first = int(noise.integers(0, max(1, item.frames - 300)))
        samples, labels = samples[first * HOP : (first + 500) * HOP], labels[first : first + 500]
        if noise.random() < 0.6:
            samples, labels = augment.stretch(samples, labels, float(np.exp(noise.uniform(-0.16, 0.16))))
        loud = np.sqrt(np.mean(np.square(samples))) + 1e-5
        scale = 0.05 * 10 ** (noise.uniform(-6, 6) / 20) / loud
        count = min(len(labels), len(samples) // HOP)
        return (samples[: count * HOP] * scale).astype(np.float32), labels[:count]


class _SideHead(nn.Module):
    """What the hidden code must be able to tell: phones and the clean spectrum around the frame."""

    def __init__(self) -> None:
        super().__init__()
        self.phones = nn.Linear(HIDDEN, HALVES * len(PHONES))
        self.spectrum = nn.Linear(HIDDEN, 40)


def _phone_loss(log_posteriors: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy; log_posteriors [B, T, 3, P] of steps, labels [B, T, 4] of frames.

    Step s names the two halves of frame s − 1 (labels 0, 1 and 2, 3) and frame s (all four).
    """
    late, early = log_posteriors[:, 1:, :2], log_posteriors[:, :, 2:]
    halves = labels[:, :-1].reshape(labels.shape[0], -1, 2, 2)
    weights = torch.ones(len(PHONES))
    weights[SILENCE] = 0.6

    def cross_entropy(x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.nll_loss(
            x.reshape(-1, len(PHONES)), y.reshape(-1), weights, ignore_index=UNKNOWN
        )

    named = cross_entropy(late.unsqueeze(3).expand(-1, -1, -1, 2, -1), halves)
    unseen = cross_entropy(early.expand(-1, -1, 4, -1), labels)
    return named + 0.3 * unseen


def _loss(model: AcousticModel, side: _SideHead, batch: Batch) -> tuple[Tensor, Tensor]:
    log_posteriors, code = model(batch.mel)
    phone = _phone_loss(log_posteriors, batch.labels)
    from_code = torch.log_softmax(side.phones(code).reshape(*code.shape[:2], HALVES, len(PHONES)), dim=-1)
    spectrum = nn.functional.mse_loss(side.spectrum(code)[:, 1:], batch.clean[:, :-1])
    return phone + 0.3 * _phone_loss(from_code, batch.labels) + 0.3 * spectrum, phone


@torch.no_grad()
def evaluate(model: AcousticModel, corpus: Corpus, items: list[Item]) -> dict[str, float]:
    """Accuracy per 20 ms over labelled halves of ``items``: phones, silence recall and precision."""
    training = model.training
    model.eval()
    hits = total = quiet_hits = quiet = quiet_said = 0
    for item in items:
        frames = item.frames // 4
        mel = normalised_mel(corpus.samples(item)[None, : frames * 4 * HOP])
        said = model(mel)[0][0, 1:, :2].argmax(-1)
        truth = torch.from_numpy(corpus.phones(item)[: (frames - 1) * 4].astype(np.int64)).view(-1, 2, 2)[
            ..., 1
        ]
        known = truth != UNKNOWN
        hits += int(((said == truth) & known).sum())
        total += int(known.sum())
        quiet_hits += int(((said == SILENCE) & (truth == SILENCE)).sum())
        quiet += int((truth == SILENCE).sum())
        quiet_said += int(((said == SILENCE) & known).sum())
    model.train(training)
    return {
        "phone_accuracy": hits / max(total, 1),
        "silence_recall": quiet_hits / max(quiet, 1),
        "silence_precision": quiet_hits / max(quiet_said, 1),
    }


@dataclass(frozen=True)
class Options:
    """``steps`` of ``batch`` crops; the learning rate rises over 100 steps and falls as a cosine."""

    steps: int = 2000
    batch: int = 32
    rate: float = 2e-3
    seed: int = 0
    save_every: int = 100
    bf16: bool = False


def train(
    corpus: Corpus, out: Path, options: Options, checkpoint: Path, init: Path | None = None
) -> dict[str, float]:
    """Train, resuming from ``checkpoint`` where it exists; writes ``out`` and returns dev metrics."""
    torch.manual_seed(options.seed)
    model, side = AcousticModel(MEL.bands), _SideHead()
    if init is not None:
        model.load_state_dict({name: value.float() for name, value in load_weights(init).items()})
    parameters = [*model.parameters(), *side.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=options.rate, betas=(0.9, 0.98), weight_decay=0.01)
    first = _resume(checkpoint, model, side, optimiser)
    sampler = Sampler(corpus, options.batch, options.seed)
    dev = [item for item in corpus.items if item.split == "dev"][:60]
    running = 0.0
    for step in range(first, options.steps):
        rise, fall = min(1.0, (step + 1) / 100), 0.5 * (1 + math.cos(math.pi * step / options.steps))
        for group in optimiser.param_groups:
            group["lr"] = options.rate * rise * max(fall, 0.01)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            loss, phone = _loss(model, side, sampler(step))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        running = phone.item() if step == first else 0.97 * running + 0.03 * phone.item()
        if (step + 1) % options.save_every == 0 or step + 1 == options.steps:
            _save(checkpoint, step + 1, model, side, optimiser)
            print(
                json.dumps({"step": step + 1, "loss": round(running, 4), **evaluate(model, corpus, dev)}),
                flush=True,
            )
    metrics = evaluate(model, corpus, dev)
    _publish(out, model, options, metrics)
    return metrics


def _resume(path: Path, model: nn.Module, side: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    if not path.is_file():
        return 0
    saved = torch.load(path, weights_only=True)
    model.load_state_dict(saved["model"])
    side.load_state_dict(saved["side"])
    optimiser.load_state_dict(saved["optimiser"])
    return int(saved["step"])


def _save(path: Path, step: int, model: nn.Module, side: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    part = path.with_suffix(".part")
    states = {"model": model.state_dict(), "side": side.state_dict(), "optimiser": optimiser.state_dict()}
    torch.save({"step": step, **states}, part)
    part.replace(path)


def _publish(out: Path, model: AcousticModel, options: Options, metrics: dict[str, float]) -> None:
    """Weights in half precision: 2 bytes each lose nothing that can be measured."""
    tensors = {name: value.half() for name, value in model.state_dict().items()}
    metadata: dict[str, object] = {
        "model": "ppg", "phones": " ".join(PHONES), "seed": options.seed, "steps": options.steps,
        "batch": options.batch, "commit": commit(),
        "dev": {key: round(value, 4) for key, value in metrics.items()},
    }  # fmt: skip
    save_weights(out, tensors, metadata)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder made by engine.train.speech_data")
    parser.add_argument("--out", type=Path, required=True, help="weights to write (.safetensors)")
    parser.add_argument("--checkpoint", type=Path, help="default: DATA/acoustic.pt")
    parser.add_argument("--steps", type=int, default=Options.steps)
    parser.add_argument("--batch", type=int, default=Options.batch)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--init", type=Path, help="weights to start from (a first, shorter training)")
    parser.add_argument("--bf16", action="store_true", help="mixed precision, faster on CPUs with AMX")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    options = Options(steps=given.steps, batch=given.batch, seed=given.seed, bf16=given.bf16)
    print(
        json.dumps(
            train(
                Corpus(given.data),
                given.out,
                options,
                given.checkpoint or given.data / "acoustic.pt",
                given.init,
            )
        )
    )


if __name__ == "__main__":
    main()
