"""The factored memory: against a slow loop in float64, who depends on whom, and plain without noise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from reverie.nets.factored_rssm import ChainConfig, FactoredRSSM
from reverie.nets.rssm import RSSM, RSSMConfig

CONFIG = RSSMConfig(6, 5, "gaussian", 3, std="softplus", cell="reset_after")
NONE = ChainConfig(0, 0)
CHAINS: dict[str, tuple[ChainConfig, ChainConfig, bool]] = {
    "xyz": (ChainConfig(4, 2), ChainConfig(5, 3), True),
    "xyz apart": (ChainConfig(4, 2), ChainConfig(5, 3), False),
    "xz": (NONE, ChainConfig(5, 3), True),
    "xy": (ChainConfig(4, 2), NONE, True),
    "x": (NONE, NONE, True),
}
EACH = pytest.mark.parametrize("kind", list(CHAINS))


def made(kind: str) -> FactoredRSSM:
    torch.manual_seed(0)
    rssm = FactoredRSSM(7, 2, CONFIG, *CHAINS[kind])
    rssm.reset_parameters()
    return rssm


def stream(rssm: FactoredRSSM, time: int = 6, width: int = 3) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(1)
    return {
        "action": torch.randn(time, width, 2, generator=g),
        "is_first": torch.rand(time, width, generator=g) < 0.3,
        "embed": torch.randn(time, width, 7, generator=g),
        "u": torch.rand(time, width, rssm.latent.noise, generator=g),
    }


def layers(network: Any, x: Tensor) -> Tensor:
    for layer in network.layers:
        x = F.elu(layer.weight.double() @ x + layer.bias.double())
    return x


def linear(layer: Any, x: Tensor) -> Tensor:
    out = layer.weight.double() @ x
    return out if layer.bias is None else out + layer.bias.double()


def gru(cell: Any, x: Tensor, h: Tensor) -> Tensor:
    (rx, ux, cx), (rh, uh, ch) = linear(cell.inputs, x).chunk(3), linear(cell.recurrent, h).chunk(3)
    u = torch.sigmoid(ux + uh)
    return u * h + (1 - u) * torch.tanh(cx + torch.sigmoid(rx + rh) * ch)


def gaussian(x: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = x.chunk(2)
    return mean, F.softplus(std) + 0.1


def prior(chain: Any, h: Tensor) -> tuple[Tensor, Tensor]:
    return gaussian(linear(chain.prior_out, layers(chain.prior_hidden, h)))


def posterior(of: Any, known: list[Tensor], embed: Tensor) -> tuple[Tensor, Tensor]:
    hidden = F.elu(linear(of.of_given, torch.cat(known)) + linear(of.of_embed, embed))
    return gaussian(linear(of.out, hidden))


@EACH
@torch.no_grad()
def test_observing_and_imagining_are_the_slow_loop(kind: str) -> None:
    rssm = made(kind)
    y, z, reads = CHAINS[kind]
    given = stream(rssm)
    states, stats, last = rssm.observe(rssm.initial_state(3), *(given[k] for k in ("action", "is_first", "embed", "u")))
    priors = rssm.prior(states["deter"])
    imagined = rssm.imagine_step(last, given["action"][0], given["u"][0])
    sizes = [("x", 6, 3), ("y", y.deter, y.stoch), ("z", z.deter, z.stoch)]
    chains = rssm.chains

    def moved(h: dict[str, Tensor], s: dict[str, Tensor], a: Tensor) -> dict[str, Tensor]:
        after = {"x": gru(chains["x"].cell, layers(chains["x"].inputs, torch.cat([s["x"], a])), h["x"])}
        if y.deter:
            after["y"] = gru(chains["y"].cell, layers(chains["y"].inputs, s["y"]), h["y"])
        return after

    def followed(now: dict[str, Tensor], drawn: dict[str, Tensor], h: Tensor, s: Tensor, a: Tensor) -> Tensor:
        read = [now["x"], drawn["x"]]
        # Ours reads [h_x; s_x; h_y; s_y; s_z; a].
        read += [now["y"], drawn["y"]] if reads and y.deter else []
        return gru(chains["z"].cell, layers(chains["z"].inputs, torch.cat([*read, s, a])), h)

    for b in range(3):
        h = {name: torch.zeros(deter).double() for name, deter, _ in sizes if deter}
        s = {name: torch.zeros(stoch).double() for name, deter, stoch in sizes if deter}
        for t in range(6):
            a, e, u = (given[k][t, b].double() for k in ("action", "embed", "u"))
            if given["is_first"][t, b]:
                h, s, a = {k: v * 0 for k, v in h.items()}, {k: v * 0 for k, v in s.items()}, a * 0
            now = moved(h, s, a)
            known = [now["x"], *([now["y"]] if y.deter else []), *([h["z"], s["z"]] if z.deter else [])]
            mean, std = posterior(rssm.joint, known, e)
            noise = torch.special.ndtri(u)
            joint = mean + std * noise[: len(mean)]
            drawn = {"x": joint[:3]} | ({"y": joint[3:]} if y.deter else {})
            if z.deter:
                now["z"] = followed(now, drawn, h["z"], s["z"], a)
                known = [now["x"], drawn["x"], *([now["y"], drawn["y"]] if y.deter else []), now["z"]]
                mean_z, std_z = posterior(rssm.follower, known, e)
                drawn["z"] = mean_z + std_z * noise[len(mean) :]
                mean, std = torch.cat([mean, mean_z]), torch.cat([std, std_z])
            h, s = now, drawn
            expected = [
                (states["deter"], torch.cat(list(h.values()))),
                (states["stoch"], torch.cat(list(s.values()))),
                (stats[0], mean),
                (stats[1], std),
                (priors[0], torch.cat([prior(chains[k], v)[0] for k, v in h.items()])),
                (priors[1], torch.cat([prior(chains[k], v)[1] for k, v in h.items()])),
                (rssm.feature(states), torch.cat([part for k in h for part in (s[k], h[k])])),
            ]
            for found, slow in expected:
                assert torch.allclose(found[t, b].double(), slow, atol=1e-5)
        a, noise = given["action"][0, b].double(), torch.special.ndtri(given["u"][0, b].double())
        now, drawn, at = moved(h, s, a), {}, 0
        for k in [k for k in ("x", "y") if k in now]:
            mean, std = prior(chains[k], now[k])
            drawn[k] = mean + std * noise[at : (at := at + len(mean))]
        if z.deter:
            now["z"] = followed(now, drawn, h["z"], s["z"], a)
            mean, std = prior(chains["z"], now["z"])
            drawn["z"] = mean + std * noise[at:]
        assert torch.allclose(imagined["deter"][b].double(), torch.cat(list(now.values())), atol=1e-5)
        assert torch.allclose(imagined["stoch"][b].double(), torch.cat(list(drawn.values())), atol=1e-5)


@EACH
@torch.no_grad()
def test_the_signal_is_imagined_alone_as_among_the_noise(kind: str) -> None:
    rssm = made(kind)
    given = stream(rssm)
    _, _, state = rssm.observe(rssm.initial_state(3), *(given[k] for k in ("action", "is_first", "embed", "u")))
    alone = rssm.signal_of(state)
    assert (alone["deter"].shape, alone["stoch"].shape) == ((3, 6), (3, 3))
    a, u = given["action"][0], given["u"][0]
    for move in (lambda x: rssm.imagine_step(x, a, u), lambda x: rssm.likely_step(x, a)):
        whole, part = move(state), move(alone)
        assert all(torch.equal(value, rssm.signal_of(whole)[name]) for name, value in part.items())
        assert torch.equal(rssm.feature(part), rssm.feature(whole)[..., : rssm.signal])
    mean = rssm.prior(rssm.likely_step(alone, a)["deter"])[0]
    assert torch.equal(rssm.likely_step(alone, a)["stoch"], mean)


def test_no_action_reaches_y_and_nothing_of_the_noise_the_signals_dynamics() -> None:
    rssm = made("xyz")
    state = {name: torch.randn(1, value.shape[1]) for name, value in rssm.initial_state(1).items()}
    inputs = {name: value.clone().requires_grad_() for name, value in state.items()}
    action = torch.randn(1, 2, requires_grad=True)
    after = rssm.imagine_step(inputs, action, torch.rand(1, 8))
    deter, stoch = rssm.parts(after["deter"], rssm.deters), rssm.parts(after["stoch"], rssm.stochs)
    reached = {}
    for name in rssm.names:
        total = deter[name].sum() + stoch[name].sum()
        grads = torch.autograd.grad(total, [action, *inputs.values()], retain_graph=True, allow_unused=True)
        of = [torch.zeros(()) if g is None else g for g in grads]
        before = [rssm.parts(of[1], rssm.deters), rssm.parts(of[2], rssm.stochs)]
        reached[name] = {k for k in rssm.names if any(part[k].any() for part in before)}
        reached[name] |= {"a"} if of[0].any() else set()
    assert reached == {"x": {"x", "a"}, "y": {"y"}, "z": {"x", "y", "z", "a"}}


@torch.no_grad()
def test_without_noise_it_is_the_plain_memory() -> None:
    torch.manual_seed(3)
    plain, rssm = RSSM(7, 2, CONFIG), made("x")
    plain.reset_parameters()
    names = {"inputs": "chains.x.inputs", "cell": "chains.x.cell", "prior_hidden": "chains.x.prior_hidden"}
    names |= {"prior_out": "chains.x.prior_out", "post_deter": "joint.of_given", "post_embed": "joint.of_embed"}
    names |= {"post_out": "joint.out"}
    moved = {}
    for key, value in plain.state_dict().items():
        head, _, rest = key.partition(".")
        moved[f"{names[head]}.{rest}"] = value
    rssm.load_state_dict(moved)
    given = stream(rssm)
    words = [given[k] for k in ("action", "is_first", "embed", "u")]
    one, two = (memory.observe(memory.initial_state(3), *words) for memory in (plain, rssm))
    for name, value in one[0].items():
        assert torch.equal(value, two[0][name])
    assert all(torch.equal(a, b) for a, b in zip(one[1], two[1], strict=True))
    assert torch.equal(plain.feature(one[2]), rssm.feature(two[2]))
    steps = [memory.imagine_step(one[2], given["action"][0], given["u"][0]) for memory in (plain, rssm)]
    assert all(torch.equal(value, steps[1][name]) for name, value in steps[0].items())


def test_what_cannot_be_is_one_line() -> None:
    for deter, stoch in ((0, 3), (3, 0), (-1, -1)):
        with pytest.raises(ValueError, match="a chain has deter and stoch, or neither"):
            ChainConfig(deter, stoch)
    with pytest.raises(ValueError, match=r"gaussian, got rssm\.latent 'categorical'"):
        FactoredRSSM(7, 2, RSSMConfig(6, 6), NONE, NONE)
