"""SGD of neural networks in the mean-field regime: simulate, drop neurons, compare with the theory.

Names are imported on first use, so that ``import meanfield`` stays light.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meanfield.checks import BlowUpWarning, DivergenceError, MeanfieldWarning
    from meanfield.dynamics.sgd import Recording, Trajectory, run_sgd
    from meanfield.landscape.alignment import Alignment, align
    from meanfield.landscape.bezier import BezierTraining, train_bezier
    from meanfield.landscape.curve_risk import curve_risk
    from meanfield.landscape.curves import QuadraticBezier, StraightLine
    from meanfield.landscape.dropout import dropout_change, dropout_curve, neuron_variance
    from meanfield.landscape.dropout_bounds import dropout_bounds
    from meanfield.landscape.kept_sets import choose_kept
    from meanfield.landscape.layers import drop_from
    from meanfield.landscape.movement import movement
    from meanfield.landscape.path_risk import path_risk
    from meanfield.landscape.paths import connect
    from meanfield.landscape.permutations import dropout_quantiles
    from meanfield.landscape.planes import Plane, plane_risk
    from meanfield.landscape.subsets import Subset, choose_subset, ladder_exponents, subset_ladder
    from meanfield.landscape.weight_path import WeightPath
    from meanfield.model.activations import PiecewiseLinear
    from meanfield.model.datasets import load_dataset, load_table
    from meanfield.model.laws import AnisotropicGaussians, Empirical, IsotropicGaussians, Law, TeacherStudent
    from meanfield.model.network import Network
    from meanfield.model.risk import Estimate, classification_error, risk

__all__ = [
    "Alignment",
    "AnisotropicGaussians",
    "BezierTraining",
    "BlowUpWarning",
    "DivergenceError",
    "Empirical",
    "Estimate",
    "IsotropicGaussians",
    "Law",
    "MeanfieldWarning",
    "Network",
    "PiecewiseLinear",
    "Plane",
    "QuadraticBezier",
    "Recording",
    "StraightLine",
    "Subset",
    "TeacherStudent",
    "Trajectory",
    "WeightPath",
    "align",
    "choose_kept",
    "choose_subset",
    "classification_error",
    "connect",
    "curve_risk",
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
    "path_risk",
    "plane_risk",
    "risk",
    "run_sgd",
    "subset_ladder",
    "train_bezier",
]

_HOMES = {
    "checks": ("BlowUpWarning", "DivergenceError", "MeanfieldWarning"),
    "dynamics.sgd": ("Recording", "Trajectory", "run_sgd"),
    "landscape.alignment": ("Alignment", "align"),
    "landscape.bezier": ("BezierTraining", "train_bezier"),
    "landscape.curve_risk": ("curve_risk",),
    "landscape.curves": ("QuadraticBezier", "StraightLine"),
    "landscape.dropout": ("dropout_change", "dropout_curve", "neuron_variance"),
    "landscape.dropout_bounds": ("dropout_bounds",),
    "landscape.kept_sets": ("choose_kept",),
    "landscape.path_risk": ("path_risk",),
    "landscape.paths": ("connect",),
    "landscape.layers": ("drop_from",),
    "landscape.movement": ("movement",),
    "landscape.permutations": ("dropout_quantiles",),
    "landscape.planes": ("Plane", "plane_risk"),
    "landscape.subsets": ("Subset", "choose_subset", "ladder_exponents", "subset_ladder"),
    "landscape.weight_path": ("WeightPath",),
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
