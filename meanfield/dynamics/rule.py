"""What a step of SGD does, besides its size."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from meanfield.checks import MeanfieldWarning, check_choice, check_integer, check_sequence
from meanfield.model.network import Network

__all__ = ["Rule", "check_rule", "trained_arrays"]

# A block whose weights decay by more than exp(-20) would drown in rounding.
LARGEST_DECAY = 20.0


@dataclass(frozen=True)
class Rule:
    """What a step does, besides its size.

    ``trained`` holds names among weight_0, bias_0, .., weight_H, bias_H. ``largest_step_size`` is the largest s_k of
    the run, which decides how long a block may be under weight decay.
    """

    trained: frozenset[str]
    batch_size: int = 1
    loss: str = "square"
    weight_decay: float = 0.0
    temperature: float = 0.0
    largest_step_size: float = 0.0

    def block_steps(self, n_samples: int) -> int:
        """Return the steps of a block of about ``n_samples`` samples, at least one; noise leaves no longer ones."""
        if self.temperature > 0:
            return 1
        steps = max(1, n_samples // self.batch_size)
        decay = -math.log1p(-2 * self.weight_decay * self.largest_step_size)
        return steps if decay == 0 else max(1, min(steps, int(LARGEST_DECAY / decay)))


def trained_arrays(trained: str | Iterable[int | str], network: Network) -> frozenset[str]:
    """Return the names (weight_0, bias_0, ..) of the arrays that ``trained`` stands for.

    See Also
    --------
    run_sgd : for the rule
    """
    depth = network.n_hidden
    held = [f"weight_{layer}" for layer in range(depth + 1)]
    held += [f"bias_{layer}" for layer in range(depth + 1) if network.biases is not None]
    if isinstance(trained, str):
        listed = f", or a list of layers 0..{depth} and of {', '.join(held)}"
        check_choice("trained", trained, ("all", "internal"), besides=listed)
        chosen: list[int | str] = list(range(depth + 1) if trained == "all" else range(1, depth))
    else:
        chosen = check_sequence("trained", trained, "layers and arrays, or 'all' or 'internal'", example=[0])
    names = set()
    for item in chosen:
        if isinstance(item, str):
            names.add(check_choice("trained array", item, held, besides=f", or a layer 0..{depth}"))
        else:
            layer = check_integer("trained layer", item, least=0, most=depth)
            names |= {name for name in held if name.endswith(f"_{layer}")}
    if not names:
        raise ValueError(f"trained={trained!r} trains nothing of widths {network.widths}: name a layer in 0..{depth}")
    return frozenset(names)


def check_rule(rule: Rule, network: Network) -> None:
    """Raise unless the rule's noise and weight decay are defined for the network; warn of decay that rounds to none.

    See Also
    --------
    run_sgd : for both
    """
    if rule.temperature > 0 and network.n_hidden != 1:
        raise ValueError(
            f"temperature is for networks with one hidden layer, whose neurons it shakes, got {rule.temperature:g} for "
            f"widths {network.widths}: use temperature=0"
        )
    if rule.weight_decay == 0:
        return
    if 2 * rule.weight_decay * rule.largest_step_size >= 1:
        raise ValueError(
            f"weight_decay must satisfy 2 weight_decay s_k < 1 for every step size s_k, got {rule.weight_decay:g} "
            f"with a step size of {rule.largest_step_size:g}: reduce either"
        )
    if 1 - network.dtype.type(2 * rule.weight_decay * rule.largest_step_size) == 1:
        warnings.warn(
            f"weight_decay={rule.weight_decay:g} at step size {rule.largest_step_size:g} is lost in the rounding of "
            f"{network.dtype}: nothing decays; use float64",
            MeanfieldWarning,
            stacklevel=3,
        )
    for layer in range(network.n_hidden):
        together = {f"weight_{layer}"} if network.biases is None else {f"weight_{layer}", f"bias_{layer}"}
        if rule.trained & together not in (frozenset(), together):
            raise ValueError(
                f"weight_decay acts on weight_{layer} and bias_{layer} together, got trained arrays "
                f"{sorted(rule.trained)}: train both or neither"
            )
