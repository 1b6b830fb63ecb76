"""Numbers that are read off a model's features: what a state is worth, the reward, whether the episode goes on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

from torch import Tensor, nn

from reverie.nets.heads import Head, HeadConfig
from reverie.nets.outputs import Output
from reverie.ops.transforms import reward_transform, symexp


class Estimator(nn.Module):
    """One number per row: a head, and what its numbers mean. A critic is one whose targets are returns."""

    Head: ClassVar[type[Head]] = Head

    def __init__(self, features: int, config: HeadConfig, output: Output) -> None:
        super().__init__()
        self.head = self.Head(features, None if output.params == 1 else output.params, config)
        self.output = output

    def numbers(self, features: Tensor) -> Tensor:
        """What the head, or several, make of features [..., F]."""
        return self.head(features)

    def mean(self, features: Tensor) -> Tensor:
        """Estimate [...] of features [..., F], in the target's units."""
        return self.output.mean(self.numbers(features))


class Predictor(Estimator, ABC):
    """An estimator whose targets are in rows: loss = mean over rows of output.loss(head(features), target(rows))."""

    @abstractmethod
    def target(self, rows: Mapping[str, Tensor]) -> Tensor:
        """Targets of rows [...], float32 [...]."""

    def loss(self, features: Tensor, rows: Mapping[str, Tensor]) -> Tensor:
        """Mean loss over rows, a scalar. features: [..., F]; rows: [...]."""
        return self.output.loss(self.numbers(features), self.target(rows)).mean()


INVERSES: dict[str, Callable[[Tensor], Tensor]] = {"identity": lambda x: x, "symlog": symexp}


class Reward(Predictor):
    """The reward earned on the way to a row, f(r) for a transform f: ``identity``, ``tanh``, ``sign`` or ``symlog``."""

    def __init__(self, features: int, config: HeadConfig, output: Output, transform: str = "identity") -> None:
        super().__init__(features, config, output)
        self.transform = transform
        self.unit = "reward" if transform in INVERSES else f"{transform}(reward)"
        """name of what `earned` returns"""
        self._transformed = reward_transform(transform)

    def target(self, rows: Mapping[str, Tensor]) -> Tensor:
        """Transformed reward f(r)."""
        return self._transformed(rows["reward"])

    def earned(self, mean: Tensor) -> Tensor:
        """A prediction in the environment's unit where f has an inverse, and as it is otherwise; see `unit`."""
        return INVERSES[self.transform](mean) if self.transform in INVERSES else mean


class Discount(Predictor):
    """Discount of what follows a row: gamma, or 0 where the episode truly ends. With gamma = 1, the chance to go on.

    Source: DreamerV2, equation 2, discount predictor.
    """

    def __init__(self, features: int, config: HeadConfig, output: Output, gamma: float = 1.0) -> None:
        super().__init__(features, config, output)
        self.gamma = gamma

    def target(self, rows: Mapping[str, Tensor]) -> Tensor:
        """Target gamma (1 - is_terminal)."""
        return self.gamma * (~rows["is_terminal"]).float()

    def discounts(self, features: Tensor) -> Tensor:
        """Discounts [...] of features [..., F] that returns in dreams are made with: the mean."""
        return self.mean(features)

    def continuation(self, mean: Tensor) -> Tensor:
        """The probability that the episode goes on, of a predicted discount."""
        return (mean / self.gamma).clamp(max=1.0)


class Continuation(Discount):
    """Discount whose head learns c = 1 - is_terminal, without gamma, and whose dreams end for certain or not at all.

    Returns in dreams are made with gamma [p(c) > 1/2]. Source: Hafner et al. 2023 (DreamerV3), the code of that year.
    """

    def target(self, rows: Mapping[str, Tensor]) -> Tensor:
        """Target 1 - is_terminal."""
        return (~rows["is_terminal"]).float()

    def mean(self, features: Tensor) -> Tensor:
        """Discount gamma p(c) [...] of features [..., F]."""
        return self.gamma * super().mean(features)

    def discounts(self, features: Tensor) -> Tensor:
        """Discount gamma or 0, whichever is likelier."""
        return self.gamma * (super().mean(features) > 0.5).float()
