#!/usr/bin/env bash
# Two of the paper's ablations in miniature: Catch on 5 x 5 cells from 20 x 20 pixels, small networks, 3 seeds.
#   categorical (KL balancing 0.8)   gaussian latents   KL balancing off
set -euo pipefail
cd "$(dirname "$0")/.."
python benchmarks/learning.py --env toy/catch --seeds 0 1 2 --jobs "${JOBS:-1}" --out results/ablations/dreamerv2 \
  --frames 9000 --set 'env.options={"cells":5,"size":20}' run.prefill=400 agent.horizon=6 replay.window.learn=10 \
  replay.batch=16 agent.rssm.deter=48 agent.rssm.hidden=48 agent.rssm.stoch=6 \
  agent.rssm.classes=6 agent.encoder.depth=6 agent.decoder.depth=6 \
  --variant categorical --variant "gaussian agent.rssm.latent=gaussian" \
  --variant "kl-balance-off agent.kl_balance=none"
