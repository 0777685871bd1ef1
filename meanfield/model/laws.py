"""Data laws: anything that says how many inputs and outputs it has and draws samples.

The laws here draw sample by sample: 5 samples and then 3 from one generator are the 8 drawn at once.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from meanfield.checks import check_finite, check_integer, check_nonnegative, check_rng
from meanfield.model.arrays import Array, read_only
from meanfield.model.network import Network

__all__ = [
    "AnisotropicGaussians",
    "Empirical",
    "IsotropicGaussians",
    "Law",
    "TeacherStudent",
    "check_law",
    "checked_sample",
]

Sample = tuple[Array, Array]


@runtime_checkable
class Law(Protocol):
    """What `run_sgd`, `risk` and the rest ask of a law of (x, y); any object that has these will do."""

    @property
    def dim(self) -> int:
        """Number of inputs d."""

    @property
    def n_outputs(self) -> int:
        """Number of outputs C."""

    def sample(self, n: int, rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any]]:
        """Draw ``n`` independent samples: x of shape (n, d), y of shape (n, C)."""


@dataclass(frozen=True)
class AnisotropicGaussians:
    """Two centred Gaussians that differ in the variance of their first ``n_informative`` inputs alone.

        y = +1 or -1 with probability 1/2,      x_i | y ~ N(0, (1 + y delta)^2) for i <= n_informative,
                                                x_i | y ~ N(0, 1) for the others, all independent

    Parameters
    ----------
    dim : number of inputs d
    n_informative : number of inputs that tell of the label, in 1..dim
    delta : separation, in [0, 1); at 0 the labels cannot be told from the inputs

    References
    ----------
    Mei, Montanari & Nguyen 2018, the anisotropic Gaussians example.
    """

    dim: int
    n_informative: int
    delta: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "dim", check_integer("dim", self.dim, least=1))
        n_informative = check_integer("n_informative", self.n_informative, least=1, most=self.dim)
        object.__setattr__(self, "n_informative", n_informative)
        object.__setattr__(self, "delta", check_nonnegative("delta", self.delta))
        if self.delta >= 1:
            raise ValueError(f"delta must lie in [0, 1), got {self.delta}: at 1 one class has inputs that are all zero")

    @property
    def n_outputs(self) -> int:
        """One output, the label."""
        return 1

    def sample(self, n: int, rng: np.random.Generator) -> Sample:
        """Draw x (n, d) and y (n, 1), float64: d + 1 normals a sample, the last one's sign is its label."""
        normals = _normal_rows(n, self.dim + 1, rng, self)
        y = np.where(normals[:, self.dim :] < 0, -1.0, 1.0)
        x = np.ascontiguousarray(normals[:, : self.dim])
        x[:, : self.n_informative] *= 1 + self.delta * y
        return x, y


@dataclass(frozen=True)
class IsotropicGaussians(AnisotropicGaussians):
    """Two centred Gaussians that differ in their radius alone.

        y = +1 or -1 with probability 1/2,      x | y ~ N(0, (1 + y delta)^2 I_d)

    Parameters
    ----------
    dim : number of inputs d, all informative
    delta : separation, in [0, 1); at 0 the labels cannot be told from the inputs

    References
    ----------
    Mei, Montanari & Nguyen 2018, the isotropic Gaussians example.
    """

    n_informative: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_informative", self.dim)
        super().__post_init__()


@dataclass(frozen=True)
class TeacherStudent:
    """Standard Gaussian inputs labelled by a network, with Gaussian noise of standard deviation ``noise``.

        x ~ N(0, I_d),      y = teacher(x) + noise * g,      g ~ N(0, I_C)

    Parameters
    ----------
    teacher : Network whose d inputs and C outputs are the law's
    noise : standard deviation of each output's noise, >= 0; laws that differ in it alone draw the same x

    References
    ----------
    Saad & Solla 1995; Goldt et al. 2019.
    """

    teacher: Network
    _: KW_ONLY
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.teacher, Network):
            raise TypeError(f"teacher must be a Network, got {type(self.teacher).__name__}")
        object.__setattr__(self, "noise", check_nonnegative("noise", self.noise))

    @property
    def dim(self) -> int:
        """Number of the teacher's inputs."""
        return self.teacher.widths[0]

    @property
    def n_outputs(self) -> int:
        """Number of the teacher's outputs."""
        return self.teacher.widths[-1]

    def sample(self, n: int, rng: np.random.Generator) -> Sample:
        """Draw x (n, d) and y (n, C), float64: d + C normals a sample, the last C for the noise."""
        normals = _normal_rows(n, self.dim + self.n_outputs, rng, self)
        x = np.ascontiguousarray(normals[:, : self.dim])
        return x, self.teacher.predict(x) + self.noise * normals[:, self.dim :]


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Empirical:
    """The uniform law on the rows of a data set.

    Sampling draws rows with replacement. In `risk`, `dropout_curve` and the like the rows are the population.

    Parameters
    ----------
    x : (n, d) inputs, integer or floating
    y : (n, C) targets, or (n,), which becomes (n, 1); kept as values, integer class labels too

    Notes
    -----
    float32 and float64 arrays are kept as read-only views, others are converted to float64.

    Examples
    --------
    >>> Empirical([[0.0], [1.0]], [1, -1])
    Empirical(n_samples=2, dim=1, n_outputs=1)
    """

    x: Array
    y: Array

    def __init__(self, x: ArrayLike, y: ArrayLike):
        inputs, targets = _as_floats("x", x), _as_floats("y", y)
        if targets.ndim == 1:
            targets = targets[:, np.newaxis]
        _check_rows("x", inputs)
        _check_rows("y", targets)
        if len(inputs) != len(targets):
            raise ValueError(
                f"x and y must have equally many rows, got {len(inputs)} and {len(targets)}: row i of y is the "
                "target of row i of x"
            )
        object.__setattr__(self, "x", read_only(inputs))
        object.__setattr__(self, "y", read_only(targets))

    @property
    def n_samples(self) -> int:
        """Number of rows."""
        return len(self.x)

    @property
    def dim(self) -> int:
        """Number of columns of x."""
        return self.x.shape[1]

    @property
    def n_outputs(self) -> int:
        """Number of columns of y."""
        return self.y.shape[1]

    def sample(self, n: int, rng: np.random.Generator) -> Sample:
        """Draw ``n`` rows with replacement: x (n, d), y (n, C), new arrays."""
        generator = check_rng(rng, "Empirical.sample")
        rows = generator.integers(self.n_samples, size=check_integer("n", n, least=1))
        return self.x[rows], self.y[rows]

    def __repr__(self) -> str:
        return f"Empirical(n_samples={self.n_samples}, dim={self.dim}, n_outputs={self.n_outputs})"

    def __reduce__(self) -> tuple[type[Empirical], tuple[Array, Array]]:
        # Copies, and those that other processes get, are read-only too.
        return Empirical, (self.x, self.y)


def check_law(law: Any) -> Law:
    """Return ``law`` if it has what a `Law` needs; nothing is drawn.

    Raises
    ------
    TypeError : ``dim``, ``n_outputs`` or ``sample`` is missing, or has another type than it must
    ValueError : ``dim`` or ``n_outputs`` is below 1
    """
    name = type(law).__name__
    if isinstance(law, type):
        raise TypeError(f"law must be an object, got the class {law.__name__}: call it with its parameters")
    if missing := [part for part in ("dim", "n_outputs", "sample") if not hasattr(law, part)]:
        raise TypeError(
            f"law must have dim, n_outputs and sample(n, rng), but {name} lacks {', '.join(missing)}: "
            "for arrays x and y use Empirical(x, y)"
        )
    check_integer(f"{name}.dim", law.dim, least=1)
    check_integer(f"{name}.n_outputs", law.n_outputs, least=1)
    if not callable(law.sample):
        raise TypeError(f"{name}.sample must be a method sample(n, rng) -> x, y, got {law.sample!r}")
    return law


def checked_sample(law: Law, n: int, rng: np.random.Generator) -> Sample:
    """Draw x (n, d) and y (n, C) from ``law`` as float32 or float64 arrays.

    Raises
    ------
    TypeError : the law returns no pair (x, y), or arrays that do not hold numbers
    ValueError : a shape other than ``law.dim`` and ``law.n_outputs`` promise, or entries that are not finite
    """
    call = f"{type(law).__name__}.sample({n}, rng)"
    drawn = law.sample(n, rng)
    if not isinstance(drawn, tuple | list) or len(drawn) != 2:
        raise TypeError(f"{call} must return a pair (x, y), got {type(drawn).__name__}")
    x, y = (
        _checked_part(f"{name} of {call}", part, (n, columns))
        for name, part, columns in zip("xy", drawn, (law.dim, law.n_outputs), strict=True)
    )
    return x, y


def _checked_part(name: str, part: Any, shape: tuple[int, int]) -> Array:
    array = _as_floats(name, part)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    check_finite(name, array)
    return array


def _normal_rows(n: int, columns: int, rng: np.random.Generator, law: Law) -> NDArray[np.float64]:
    generator = check_rng(rng, f"{type(law).__name__}.sample")
    return generator.standard_normal((check_integer("n", n, least=1), columns))


def _check_rows(name: str, array: Array) -> None:
    if array.ndim != 2 or array.size == 0:
        raise ValueError(
            f"{name} must be a non-empty array with one row a sample, got shape {array.shape}: "
            f"flatten samples with .reshape(len({name}), -1)"
        )
    check_finite(name, array)


def _as_floats(name: str, values: ArrayLike) -> Array:
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must hold numbers, got {array.dtype}: convert with .astype(numpy.float64)")
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
