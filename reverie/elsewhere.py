"""What keys are called elsewhere, and what they are called here: for suggestions only.

A name is never taken for another without a word: a run has one name for each thing, so that it can be found, compared
and read by people, and what is called alike elsewhere may count in other units (bytes, shares of a run, env_steps).
"""

from __future__ import annotations

from collections.abc import Iterable

NAMES = {
    "lr": "learning_rate optimizer_lr",
    "run.env_steps": "total_timesteps total_steps timesteps max_steps num_timesteps steps train_steps num_steps "
    "total_env_steps",
    "run.frames": "total_frames num_frames max_frames",
    "replay.batch": "batch_size minibatch_size",
    "replay.window.learn": "batch_length sequence_length seq_len unroll_length trace_length",
    "replay.window.context": "burn_in burnin",
    "replay.store.budget": "buffer_size replay_size replay_capacity memory_size memory_capacity capacity",
    "run.prefill": "learning_starts warmup_steps start_steps prefill_steps min_replay_size replay_start_size "
    "learn_start",
    "run.train_ratio": "train_freq train_frequency gradient_steps utd utd_ratio update_to_data update_every "
    "replay_ratio",
    "run.pretrain": "pretrain_steps",
    "target_every": "target_network_frequency target_update_interval target_update target_update_period "
    "target_update_frequency target_network_update_freq slow_target_update",
    "target_fraction": "tau polyak slow_target_fraction",
    "gamma": "discount discount_factor",
    "lam": "gae_lambda lambda disclam td_lambda",
    "explore.over": "exploration_fraction eps_decay epsilon_decay exploration_steps",
    "explore.end": "exploration_final_eps end_e eps_end epsilon_end final_epsilon",
    "explore.start": "exploration_initial_eps start_e eps_start epsilon_start epsilon initial_epsilon",
    "clip": "max_grad_norm grad_clip gradient_clip clip_grad clip_grad_norm",
    "env.num_envs": "n_envs num_workers num_actors n_workers parallel_envs",
    "agent.stack": "frame_stack stack_frames framestack num_stack history_length",
    "env.options.frame_skip": "frame_skip frameskip",
    "env.options.action_repeat": "action_repeat",
    "env.options.sticky": "sticky_actions repeat_action_probability",
    "n_step": "n_steps nstep multi_step update_horizon",
    "eps": "adam_eps opt_eps adam_epsilon",
    "replay.selector.alpha": "per_alpha prioritized_replay_alpha priority_exponent",
    "agent.beta": "per_beta prioritized_replay_beta0 priority_weight",
    "units": "hidden_size hidden_dim hidden_units",
    "run.eval_every": "eval_freq eval_interval eval_frequency evaluation_interval",
    "run.eval_episodes": "n_eval_episodes num_eval_episodes eval_eps",
    "run.log_every": "log_interval log_freq",
    "run.checkpoint_every": "save_freq save_interval checkpoint_freq checkpoint_interval save_every",
    "env.id": "env_id env_name task game environment",
    "run.seed": "random_seed",
    "run.device": "cuda gpu use_gpu use_cuda",
    "run.precision": "mixed_precision amp fp16 bf16 half",
    "run.threads": "num_threads n_threads",
    "--logdir": "log_dir save_dir output_dir run_dir out_dir save_path out output dir directory folder workdir",
    "--init": "load load_path checkpoint_path load_checkpoint pretrained model_path",
    "atoms": "num_atoms n_atoms",
    "levels": "num_quantiles n_quantiles",
    "horizon": "imag_horizon imagination_horizon imagine_horizon",
    "agent.entropy": "entropy_coef ent_coef actor_ent entropy_scale actent",
    "kl_scale": "kl_coef kl_weight",
    "rssm.deter": "deter_size dyn_deter gru_size",
    "rssm.stoch": "stoch_size dyn_stoch",
    "rssm.classes": "dyn_discrete discrete_size",
}
"""a key here, or its last parts -> names elsewhere"""

OPTIONS = ("--", "env.options.")
"""beginnings of what is suggested though no configuration lists it"""


def called_here(name: str, known: Iterable[str]) -> list[str]:
    """Those of the known keys that are meant by a name from elsewhere, at most five."""
    word = name.rpartition(".")[2].lower().replace("-", "_")
    meant = [key for key, names in NAMES.items() if word in names.split()]
    there = [key for key in known if any(f".{key}".endswith(f".{part}") for part in meant)]
    return (there + [part for part in meant if part.startswith(OPTIONS)])[:5]
