"""What was learned, at work: one environment by hand, many at once, and the policy that explores."""

from __future__ import annotations

import numpy as np

import reverie


def play(run_dir: str, seed: int = 0) -> float:
    """The score of one episode in a plain `gymnasium.Env`."""
    policy, env = reverie.load(run_dir), reverie.make_single(run_dir)
    obs, _ = env.reset(seed=seed)
    state = policy.initial_state(1)  # what the policy remembers; anew for each episode
    score, done = 0.0, False
    while not done:
        action, state = policy.act(obs, state)
        obs, reward, terminated, truncated, _ = env.step(action)
        score, done = score + float(reward), terminated or truncated
    env.close()
    return score


def play_many(run_dir: str, episodes: int = 8) -> list[float]:
    """Scores of several episodes, which one call decides for; `reverie.evaluate` does this, and more."""
    policy = reverie.load(run_dir)
    envs = [reverie.make_single(run_dir) for _ in range(episodes)]
    observations = [env.reset(seed=seed)[0] for seed, env in enumerate(envs)]
    state, scores, playing = policy.initial_state(episodes), np.zeros(episodes), np.ones(episodes, bool)
    while playing.any():
        actions, state = policy.act(np.stack(observations), state)
        for i in np.flatnonzero(playing):
            observations[i], reward, terminated, truncated, _ = envs[i].step(actions[i])
            scores[i] += float(reward)
            playing[i] = not (terminated or truncated)
    for env in envs:
        env.close()
    return scores.tolist()


def main(run_dir: str = "runs/loaded", env_steps: int = 3000) -> tuple[float, list[float]]:
    """Train for a moment, and play."""
    from reverie.overrides import apply

    config = apply(reverie.make_config("dqn", "cpu", "CartPole-v1"), {"run.env_steps": env_steps, "run.prefill": 200})
    reverie.train(config, run_dir)
    one, many = play(run_dir), play_many(run_dir)
    print(f"one episode: {one}; eight: {many}")
    return one, many


if __name__ == "__main__":
    main()
