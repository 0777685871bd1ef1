"""SGD of neural networks in the mean-field regime: simulate, drop neurons, compare with the theory.

Names are imported on first use, so that ``import meanfield`` stays light.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meanfield.checks import DivergenceError, MeanfieldWarning
    from meanfield.dynamics.sgd import Recording, Trajectory, run_sgd
    from meanfield.landscape.dropout import dropout_change, dropout_curve, neuron_variance
    from meanfield.landscape.dropout_bounds import dropout_bounds
    from meanfield.landscape.layers import drop_from
    from meanfield.landscape.movement import movement
    from meanfield.landscape.permutations import dropout_quantiles
    from meanfield.landscape.subsets import Subset, choose_subset, ladder_exponents, subset_ladder
    from meanfield.model.activations import PiecewiseLinear
    from meanfield.model.datasets import load_dataset, load_table
    from meanfield.model.laws import AnisotropicGaussians, Empirical, IsotropicGaussians, Law, TeacherStudent
    from meanfield.model.network import Network
    from meanfield.model.risk import Estimate, classification_error, risk

__all__ = [
    "AnisotropicGaussians",
    "DivergenceError",
    "Empirical",
    "Estimate",
    "IsotropicGaussians",
    "Law",
    "MeanfieldWarning",
    "Network",
    "PiecewiseLinear",
    "Recording",
    "Subset",
    "TeacherStudent",
    "Trajectory",
    "choose_subset",
    "classification_error",
    "drop_from",
    "dropout_bounds",
    "dropout_change",
    "dropout_curve",
    "dropout_quantiles",
    "ladder_exponents",
    "load_dataset",
    "load_table",
    "movement",
    "neuron_variance",
    "risk",
    "run_sgd",
    "subset_ladder",
]

_HOMES = {
    "checks": ("DivergenceError", "MeanfieldWarning"),
    "dynamics.sgd": ("Recording", "Trajectory", "run_sgd"),
    "landscape.dropout": ("dropout_change", "dropout_curve", "neuron_variance"),
    "landscape.dropout_bounds": ("dropout_bounds",),
    "landscape.layers": ("drop_from",),
    "landscape.movement": ("movement",),
    "landscape.permutations": ("dropout_quantiles",),
    "landscape.subsets": ("Subset", "choose_subset", "ladder_exponents", "subset_ladder"),
    "model.activations": ("PiecewiseLinear",),
    "model.datasets": ("load_dataset", "load_table"),
    "model.laws": ("AnisotropicGaussians", "Empirical", "IsotropicGaussians", "Law", "TeacherStudent"),
    "model.network": ("Network",),
    "model.risk": ("Estimate", "classification_error", "risk"),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("meanfield-sgd")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
