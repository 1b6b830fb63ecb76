"""A memory of up to three chains: what actions can reach, and the noise beside it.

::

    signal x   h_x = GRU(act(W [s_x; a]), h_x)                        what actions reach
    noise  y   h_y = GRU(act(V s_y), h_y)                             goes its own way, rewards may depend on it
    noise  z   h_z = GRU(MLP [h_x'; s_x'; s_z; a; h_y'; s_y'], h_z)   follows all, no reward depends on it

    priors        p(s_x | h_x)    p(s_y | h_y)    p(s_z | h_z)
    posteriors    q(s_x, s_y | h_x', h_y', h_z, s_z, e)               then q(s_z | h_x', s_x', h_y', s_y', h_z', e)

with h deterministic, s stochastic, a an action, e an embedding; a prime says that it is the row's own and no longer
that of the row before. The signal's dynamics depend on no noise, so that it can be imagined alone.

Source: Wang et al. 2022 (Denoised MDP, arXiv 2206.15477), figure 2, and its code. Without y and z it is `RSSM` with
Gaussian latents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from reverie.data.rows import State
from reverie.nets.latents import Gaussian, Stats
from reverie.nets.layers import MLP, activation, norm_of
from reverie.nets.rssm import RSSMConfig, glorot_split_, make_cell
from reverie.nets.state_space import StateSpace
from reverie.values import Number

Parts = dict[str, Tensor]
"""a part of a state by chain, x first: name -> [..., size]"""


@dataclass(frozen=True)
class ChainConfig:
    """deter: width of the GRU and of the layers around it. stoch: variables. Both 0: there is no such chain.

    Raises ValueError where one of them is 0 alone, or negative.
    """

    deter: Number = 120
    stoch: Number = 20

    def __post_init__(self) -> None:
        if min(self.deter, self.stoch) < 0 or (self.deter > 0) != (self.stoch > 0):
            raise ValueError(f"a chain has deter and stoch, or neither, got {self.deter} and {self.stoch}")

    @property
    def features(self) -> int:
        """Width of its features."""
        return self.deter + self.stoch


class Chain(nn.Module):
    """Deterministic half and prior of one chain. inputs, layers: of what its GRU reads. config: its sizes."""

    def __init__(self, inputs: int, layers: int, config: RSSMConfig) -> None:
        super().__init__()
        self.latent = Gaussian(config.stoch, config.std)
        self.inputs = MLP(inputs, layers, config.hidden, config.act, config.norm)
        self.cell = make_cell(config)
        self.prior_hidden = MLP(config.deter, 1, config.hidden, config.act, config.norm)
        self.prior_out = nn.Linear(config.hidden, self.latent.params)

    def advance(self, given: Tensor, deter: Tensor) -> Tensor:
        """Next deterministic state [B, deter]. given: [B, inputs]."""
        return self.cell(self.inputs(given), deter)

    def prior(self, deter: Tensor) -> Stats:
        """Mean and std, [..., stoch] each, of deterministic states [..., deter]."""
        return self.latent.stats(self.prior_out(self.prior_hidden(deter)))


class Posterior(nn.Module):
    """Layer of what is known and of an embedding, in two halves, and a Gaussian of its outputs."""

    def __init__(self, given: int, embed: int, hidden: int, latent: Gaussian, config: RSSMConfig) -> None:
        super().__init__()
        self.latent, self.hidden = latent, hidden
        self.act = activation(config.act)
        self.of_given = nn.Linear(given, hidden, bias=config.norm != "layer")
        self.of_embed = nn.Linear(embed, hidden, bias=False)
        self.norm = norm_of(config.norm, hidden)
        self.out = nn.Linear(hidden, latent.params)

    def forward(self, given: Tensor, embedded: Tensor) -> Stats:
        """Mean and std. given: [..., given]. embedded: what `of_embed` makes of an embedding, [..., hidden]."""
        return self.latent.stats(self.out(self.act(self.norm(self.of_given(given) + embedded))))


class FactoredRSSM(StateSpace):
    """The memory of Denoised MDP. ``deter`` and ``stoch`` of a state are those of all chains side by side, x first.

    A state may also be the signal's alone (`signal_of`): then so is what is imagined of it, and its features.
    config: of the signal; act, std, norm and cell are of all chains. z_reads_y: whether z follows y, not only x.
    Raises ValueError for latents that are not Gaussian.
    """

    def __init__(
        self, embed: int, action: int, config: RSSMConfig, y: ChainConfig, z: ChainConfig, z_reads_y: bool = True
    ) -> None:
        if config.latent != "gaussian":
            raise ValueError(f"the chains of a factored memory are gaussian, got rssm.latent {config.latent!r}")
        sizes = {"x": ChainConfig(config.deter, config.stoch), "y": y, "z": z}
        sizes = {name: chain for name, chain in sizes.items() if chain.deter}
        self.names = tuple(sizes)
        self.deters, self.stochs = [c.deter for c in sizes.values()], [c.stoch for c in sizes.values()]
        super().__init__(sum(self.deters), Gaussian(sum(self.stochs), config.std))
        self.signal = sizes["x"].features
        """width of the signal's features, which are the first"""
        noises = {name: replace(config, deter=c.deter, hidden=c.deter, stoch=c.stoch) for name, c in sizes.items()}
        follows = self.signal + (y.features if z_reads_y else 0)
        self.z_reads = ("x", "y") if z_reads_y and y.deter else ("x",)
        self.chains = nn.ModuleDict({"x": Chain(config.stoch + action, 1, config)})
        if y.deter:
            self.chains["y"] = Chain(y.stoch, 1, noises["y"])
        if z.deter:
            self.chains["z"] = Chain(follows + z.stoch + action, 2, noises["z"])
        known, hidden = config.deter + y.deter + z.features, config.hidden + y.deter
        joint = Gaussian(config.stoch + y.stoch, config.std)
        self.joint = Posterior(known, embed, hidden, joint, config)
        self.follower: Posterior | None = None
        if z.deter:
            known = self.signal + y.features + z.deter
            self.follower = Posterior(known, embed, z.deter, Gaussian(z.stoch, config.std), config)

    def reset_parameters(self) -> None:
        """Glorot's for each layer that is kept in halves; and the cells'."""
        for posterior in self.posteriors:
            glorot_split_(posterior.of_given, posterior.of_embed)
        for name in self.names:
            self.chain(name).cell.reset_parameters()

    @property
    def posteriors(self) -> list[Posterior]:
        """That of signal and y, and that of z where it is there."""
        return [self.joint] if self.follower is None else [self.joint, self.follower]

    def chain(self, name: str) -> Chain:
        """A chain by its name."""
        chain = self.chains[name]
        assert isinstance(chain, Chain)
        return chain

    def parts(self, x: Tensor, sizes: list[int]) -> Parts:
        """Tensor [..., all] by chain; one of the signal's width is the signal's."""
        return {"x": x} if x.shape[-1] == sizes[0] else dict(zip(self.names, x.split(sizes, -1), strict=True))

    def stats_of(self, stats: Stats) -> dict[str, Stats]:
        """Mean and std of all chains [..., all] by chain."""
        mean, std = (self.parts(x, self.stochs) for x in stats)
        return {name: (mean[name], std[name]) for name in self.names}

    def signal_of(self, state: State) -> State:
        """The signal's part of a state."""
        return {
            "deter": self.parts(state["deter"], self.deters)["x"],
            "stoch": self.parts(state["stoch"], self.stochs)["x"],
        }

    def feature(self, state: State) -> Tensor:
        """Features [s_x; h_x; s_y; h_y; s_z; h_z] of the chains that are there."""
        stoch, deter = self.parts(state["stoch"], self.stochs), self.parts(state["deter"], self.deters)
        return torch.cat([part for name in stoch for part in (stoch[name], deter[name])], -1)

    def prior(self, deter: Tensor) -> Stats:
        """Mean and std of all chains' priors, any leading axes. deter: of all chains."""
        stats = [self.chain(name).prior(h) for name, h in self.parts(deter, self.deters).items()]
        mean, std = (torch.cat(part, -1) for part in zip(*stats, strict=True))
        return mean, std

    def embedded(self, embed: Tensor) -> Tensor:
        """The observation's halves of the posteriors' first layers, side by side."""
        return torch.cat([posterior.of_embed(embed) for posterior in self.posteriors], -1)

    def follow(self, deter: Parts, stoch: Parts, before: State, action: Tensor) -> Tensor:
        """Deterministic state of z. deter, stoch: the row's own of x and y. before: the state of the row before."""
        h, s = self.parts(before["deter"], self.deters)["z"], self.parts(before["stoch"], self.stochs)["z"]
        read = [part for name in self.z_reads for part in (deter[name], stoch[name])]
        return self.chain("z").advance(torch.cat([*read, s, action], -1), h)

    def unmoved(self, before: State, action: Tensor) -> Parts:
        """Deterministic states of x, and of y if it is there, neither of which depends on another chain."""
        h, s = self.parts(before["deter"], self.deters), self.parts(before["stoch"], self.stochs)
        deter = {"x": self.chain("x").advance(torch.cat([s["x"], action], -1), h["x"])}
        if "y" in h:
            deter["y"] = self.chain("y").advance(s["y"], h["y"])
        return deter

    def observe_embedded(
        self, state: State, action: Tensor, is_first: Tensor, embedded: Tensor, u: Tensor, first: State | None = None
    ) -> tuple[State, Stats]:
        """State and posterior of `observe_step`, the observation's halves of the posterior layers computed before."""
        before, action = self.begin(state, action, is_first, first)
        joint, follower = self.joint, self.follower
        deter = self.unmoved(before, action)
        noise = self.parts(before["deter"], self.deters), self.parts(before["stoch"], self.stochs)
        known = [*deter.values(), *(part["z"] for part in noise if "z" in part)]
        stats = [joint(torch.cat(known, -1), embedded[..., : joint.hidden])]
        drawn = joint.latent.sample(stats[0], u[..., : joint.latent.noise])
        stoch = dict(zip(deter, drawn.split(self.stochs[: len(deter)], -1), strict=True))
        if follower is not None:
            h_z = self.follow(deter, stoch, before, action)
            known = [part for name in deter for part in (deter[name], stoch[name])]
            stats.append(follower(torch.cat([*known, h_z], -1), embedded[..., joint.hidden :]))
            deter["z"], stoch["z"] = h_z, follower.latent.sample(stats[1], u[..., joint.latent.noise :])
        mean, std = (torch.cat(part, -1) for part in zip(*stats, strict=True))
        return joined(deter, stoch), (mean, std)

    def imagine_step(self, state: State, action: Tensor, u: Tensor) -> State:
        """State after one step of the priors. u: [B, noise], of which the signal takes the first."""
        noise = self.parts(u, self.stochs)
        return self.imagined(state, action, lambda name, stats: self.chain(name).latent.sample(stats, noise[name]))

    def likely_step(self, state: State, action: Tensor) -> State:
        """State after one step of the priors, with the means of latents in place of samples."""
        return self.imagined(state, action, lambda name, stats: self.chain(name).latent.mode(stats))

    def imagined(self, state: State, action: Tensor, draw: Callable[[str, Stats], Tensor]) -> State:
        """State after one step of the chains that are in it. draw: a latent of a chain's prior."""
        deter = self.unmoved(state, action)
        stoch = {name: draw(name, self.chain(name).prior(h)) for name, h in deter.items()}
        if "z" in self.parts(state["deter"], self.deters):
            deter["z"] = self.follow(deter, stoch, state, action)
            stoch["z"] = draw("z", self.chain("z").prior(deter["z"]))
        return joined(deter, stoch)


def joined(deter: Parts, stoch: Parts) -> State:
    """A state of parts by chain."""
    return {"deter": torch.cat(list(deter.values()), -1), "stoch": torch.cat(list(stoch.values()), -1)}
