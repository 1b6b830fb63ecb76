"""Pong from pixels: train the `cpu` preset for 124k frames, then compare 45-step dreams with repeating the last frame.

    python benchmarks/pong_dream.py --run runs/pong --out results/pong

Trains (or goes on training) the run, predicts held-out sequences of its policy's play in open loop after 5 frames, and
writes dream.json, dream.gif, dream.png and dream_error.png.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from reverie.play.dream import dream


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/pong"))
    parser.add_argument("--out", type=Path, default=Path("results/pong"))
    parser.add_argument("--frames", type=int, default=124_000)
    options = parser.parse_args()
    words = ["train", "dreamerv2", "--preset", "cpu", "--env", "ALE/Pong-v5", "--frames", str(options.frames)]
    if (options.run / "config.json").exists():
        words = ["resume", str(options.run)]
    else:
        words += ["--logdir", str(options.run), "run.threads=1", "run.checkpoint_every=2000"]
    subprocess.run([sys.executable, "-m", "reverie.cli", *words], check=True)
    result = dream(options.run, context=5, horizon=45, episodes=3, sequences=60, out=options.out)
    better = [d < r for d, r in zip(result["dream_error"], result["repeat_error"], strict=True)]
    print(f"lower than repeating the last frame at every horizon from 5 on: {all(better[4:])}")


if __name__ == "__main__":
    main()
