"""Learning runs of one agent over seeds and variants, as committed evidence: `reverie compare` by another name.

    python benchmarks/learning.py --env toy/catch --seeds 0 1 2 --out results/learning/catch
    python benchmarks/learning.py --env toy/catch --seeds 0 1 2 --out results/ablations/latents \\
        --variant categorical --variant "gaussian agent.rssm.latent=gaussian"

Runs are in --work [runs/evidence/<name of out>]; those that are complete there are not repeated. Writes <out>.json (all
seeds, statistics, minutes, curves), .png, .csv and .md. See docs/evidence.md.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from reverie.errors import UserError
from reverie.report.comparison import markdown
from reverie.study.compare import Comparison, Variant, compare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agent", default="dreamerv2")
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--env", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variant", action="append", default=[], help="name followed by overrides key=value")
    parser.add_argument("--set", nargs="*", default=[], help="overrides for all variants")
    parser.add_argument("--frames", type=int, help="length of each run [the preset's]")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="torch threads of each run")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    variants = [shlex.split(words) for words in options.variant or [options.agent]]
    try:
        document = compare(
            Comparison(
                env=options.env,
                variants=tuple(Variant(words[0], options.agent, tuple(words[1:])) for words in variants),
                seeds=tuple(options.seeds),
                work=options.work or Path("runs") / "evidence" / options.out.name,
                out=options.out,
                preset=options.preset,
                frames=options.frames,
                overrides=tuple(options.set),
                episodes=options.episodes,
                jobs=options.jobs,
                threads=options.threads,
                command=shlex.join(["python", *sys.argv]),
            ),
            say=lambda line: print(line, flush=True),
        )
    except UserError as error:
        sys.exit(f"learning.py: error: {error}")
    print("\n".join(markdown(document)))


if __name__ == "__main__":
    main()
