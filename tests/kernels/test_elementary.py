"""The elementary functions against extended precision, and the promises that make them fit for vector loops."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import numpy as np
import pytest

from meanfield.kernels import _jit, elementary
from meanfield.kernels.elementary import arcsin, erf, exp, gaussian, log1p_exp, sigmoid, tanh

FUNCTIONS = {f.__name__: f for f in (exp, gaussian, sigmoid, tanh, log1p_exp, erf, arcsin)}
DTYPES = (np.float32, np.float64)
EXTENDED = np.longdouble
DOCUMENTED_ULP = {
    name: dict(zip(DTYPES, map(float, errors), strict=True))
    for name, *errors in re.findall(r"^    (\w+) +(\d\.\d) +(\d\.\d)$", elementary.__doc__, re.MULTILINE)
}
# Where extended precision is none, the oracle itself errs by a unit or two.
ORACLE_ULP = 0 if np.finfo(EXTENDED).nmant > 60 else 2
AT_MINUS_INFINITY = {"exp": 0, "gaussian": 0, "sigmoid": 0, "tanh": -1, "log1p_exp": 0, "erf": -1, "arcsin": np.nan}
AT_INFINITY = {"exp": np.inf, "gaussian": 0, "sigmoid": 1, "tanh": 1, "log1p_exp": np.inf, "erf": 1, "arcsin": np.nan}
AT_ZERO = {"exp": 1, "gaussian": 1, "sigmoid": 0.5, "tanh": 0, "log1p_exp": np.log(2), "erf": 0, "arcsin": 0}

each_function = pytest.mark.parametrize("name", FUNCTIONS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)


def _loop_over(function, jit):
    @jit
    def loop(out, z):
        for i in range(z.size):
            out[i] = function(z[i])

    return loop


@pytest.fixture(scope="module")
def loops():
    """One compiled loop a function, kept out of the cache so that its code can be read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_jit, "cache_folder", lambda: None)
        return {name: _loop_over(function, _jit.jit) for name, function in FUNCTIONS.items()}


def _evaluate(loop, z):
    out = np.empty_like(z)
    loop(out, z)
    return out


def _code(loop, dtype):
    _evaluate(loop, np.ones(8, dtype))
    [code] = [text for (out, _), text in loop.inspect_llvm().items() if out.dtype.name == np.dtype(dtype).name]
    return code


def _exp_of_square(factor, x):
    """e^(factor x^2), factor < 0; the square of a float32 is exact in extended precision, that of a float64 not."""
    a = np.minimum(np.abs(x), 100)
    head = a.astype(np.float32).astype(EXTENDED)
    return np.exp(factor * head * head) * np.exp(factor * (a - head) * (a + head))


def _erf_series(x):
    """erf x = 2/sqrt(pi) e^(-x^2) sum_n 2^n x^(2n+1) / (2n+1)!!: no term is negative, so nothing cancels."""
    a = np.minimum(np.abs(x), 7)
    term = total = a
    for n in range(1, 260):
        term = term * (2 * a * a) / (2 * n + 1)
        total = total + term
    return np.copysign(total * _exp_of_square(-1, a) / np.sqrt(np.arctan(EXTENDED(1))), x)


ORACLES = {
    "exp": np.exp,
    "gaussian": lambda x: _exp_of_square(-0.5, x),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "log1p_exp": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "erf": _erf_series,
    "arcsin": np.arcsin,
}


def _points(name, dtype):
    """Dense where the function varies, random in between, and all exponents of its domain in both signs."""
    rng = np.random.default_rng(7)
    limits = np.finfo(dtype)
    exponents = rng.uniform(np.log2(float(limits.smallest_subnormal)), np.log2(float(limits.max)), 3000)
    widest = 1.02 * np.log(float(limits.max))
    points = np.concatenate(
        [
            np.linspace(-3, 3, 4001),
            rng.normal(size=4000),
            rng.uniform(-widest, widest, 4000),
            rng.uniform(-1.02, 1.02, 3000) * np.sqrt(2 * widest),
            np.exp2(exponents),
            -np.exp2(exponents),
            [limits.max, -limits.max, limits.tiny, limits.smallest_subnormal, -limits.smallest_subnormal],
        ]
    ).astype(dtype)
    return _in_domain(name, points)


def _in_domain(name, points):
    return points[np.abs(points) <= 1] if name == "arcsin" else points


def _ulp_error(value, exact):
    """Distance to the exact value in units in the last place of its rounding; infinities have to agree."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        rounded = exact.astype(value.dtype)
        distance = np.abs(value.astype(EXTENDED) - exact) / np.spacing(np.abs(rounded)).astype(EXTENDED)
    return np.where(np.isinf(rounded) & (value == rounded), 0, distance)


@each_dtype
@each_function
def test_error_is_within_the_documented_bound(loops, name, dtype):
    z = _points(name, dtype)
    with np.errstate(over="ignore", under="ignore"):
        exact = ORACLES[name](z.astype(EXTENDED))
    worst = _ulp_error(_evaluate(loops[name], z), exact).max()
    assert worst <= DOCUMENTED_ULP[name][dtype] + ORACLE_ULP


def test_error_is_documented_for_every_function():
    assert set(DOCUMENTED_ULP) == set(elementary.__all__) == set(FUNCTIONS)


@each_function
def test_error_measure_notices_a_shift_by_four_units(loops, name):
    z = _in_domain(name, np.linspace(-3, 3, 3001))
    shifted = _evaluate(loops[name], z)
    shifted += 4 * np.spacing(shifted)
    assert _ulp_error(shifted, ORACLES[name](z.astype(EXTENDED))).max() > DOCUMENTED_ULP[name][np.float64]


@each_dtype
@each_function
def test_infinities_go_to_the_limits(loops, name, dtype):
    values = _evaluate(loops[name], np.array([-np.inf, np.inf], dtype))
    np.testing.assert_array_equal(values, np.array([AT_MINUS_INFINITY[name], AT_INFINITY[name]], dtype))


@each_dtype
@each_function
def test_zero_is_exact(loops, name, dtype):
    np.testing.assert_array_equal(_evaluate(loops[name], np.zeros(3, dtype)), dtype(AT_ZERO[name]))


@each_dtype
@each_function
def test_nan_is_passed_on_whatever_its_payload(loops, name, dtype):
    unsigned = np.dtype(f"u{np.dtype(dtype).itemsize}")
    quiet = np.array(np.nan, dtype).view(unsigned)
    payloads = np.concatenate([np.arange(64), 2 ** np.arange(8, 22)]).astype(unsigned)
    z = np.concatenate([quiet + payloads, ~(unsigned.type(0)) - payloads]).view(dtype)
    assert np.isnan(z).all()
    assert np.isnan(_evaluate(loops[name], z)).all()


@each_dtype
@pytest.mark.parametrize("name", ["tanh", "erf", "arcsin"])
def test_odd_functions_are_odd_to_the_bit_and_stay_within_their_range(loops, name, dtype):
    z = np.abs(np.concatenate([_points(name, dtype), np.zeros(1, dtype)]))
    above, below = _evaluate(loops[name], z), _evaluate(loops[name], -z)
    np.testing.assert_array_equal(above.view(np.uint8), (-below).view(np.uint8))
    assert not np.signbit(above).any()
    assert (above <= {"arcsin": dtype(np.pi / 2)}.get(name, 1)).all()


@each_dtype
def test_exp_underflows_gradually_and_overflows_only_beyond_the_largest_number(loops, dtype):
    limits = np.finfo(dtype)
    underflow = np.log(EXTENDED(limits.smallest_subnormal)).astype(dtype)
    overflow = np.log(EXTENDED(limits.max)).astype(dtype)
    z = np.array([underflow - dtype(1), underflow + dtype(0.5), overflow - dtype(0.001), overflow + dtype(0.001)])
    none, least, most, infinite = _evaluate(loops["exp"], z)
    assert none == 0
    assert least > 0
    assert least < limits.tiny
    assert most < np.inf
    assert infinite == np.inf


@each_dtype
@each_function
def test_bits_do_not_depend_on_the_place_in_the_loop(loops, name, dtype):
    z = np.random.default_rng(3).normal(scale=3, size=259).astype(dtype)
    together = _evaluate(loops[name], z)
    alone = np.concatenate([_evaluate(loops[name], z[i : i + 1]) for i in range(z.size)])
    offset = np.concatenate([_evaluate(loops[name], z[:5]), _evaluate(loops[name], z[5:])])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together, offset)


@each_dtype
@pytest.mark.parametrize("name", ["gaussian", "tanh"])
def test_bits_do_not_depend_on_a_caller_that_allows_reassociation(loops, name, dtype, monkeypatch):
    monkeypatch.setattr(_jit, "cache_folder", lambda: None)
    z = _points(name, dtype)
    free = _loop_over(FUNCTIONS[name], _jit.jit_sum)
    np.testing.assert_array_equal(_evaluate(free, z), _evaluate(loops[name], z))
    assert "reassoc" not in _code(free, dtype)


@each_dtype
@each_function
def test_loop_is_packed_and_nothing_is_widened(loops, name, dtype):
    code = _code(loops[name], dtype)
    packed, other = {np.float32: ("float", "double"), np.float64: ("double", "float")}[dtype]
    assert re.search(rf"fmul contract <\d+ x {packed}>", code)
    assert not re.search(rf"\b{other}\b", code)


@each_dtype
@each_function
def test_interpreter_and_compiled_loop_agree(loops, name, dtype):
    z = _in_domain(name, np.array([-4.2, -0.7, -1e-5, 0.3, 0.99, 1.31, 1.4, 3.0, 5.5], dtype))
    plain = [FUNCTIONS[name](x) for x in z]
    assert all(isinstance(value, dtype) for value in plain)
    exact = ORACLES[name](z.astype(EXTENDED))
    assert _ulp_error(np.array(plain), exact).max() <= DOCUMENTED_ULP[name][dtype] + ORACLE_ULP


CALLER = """
import numpy as np
from meanfield.kernels._jit import jit
from meanfield.kernels.elementary import erf, tanh

@jit
def product(out, z):
    for i in range(z.size):
        out[i] = tanh(z[i]) * erf(z[i])

for dtype in (np.float32, np.float64):
    z = np.linspace(-2, 2, 9, dtype=dtype)
    out = np.empty_like(z)
    product(out, z)
    print(out.tolist())
print("loaded", sum(product.stats.cache_hits.values()))
"""


@pytest.mark.long
def test_another_module_imports_the_functions_and_loads_its_loop_from_the_cache(tmp_path, monkeypatch):
    (tmp_path / "caller.py").write_text(CALLER)
    monkeypatch.setenv("MEANFIELD_CACHE", str(tmp_path / "cache"))
    command = [sys.executable, "-c", "import caller"]
    first, second = (
        subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.splitlines()
        for _ in range(2)
    )
    assert first[:2] == second[:2]
    assert (first[2], second[2]) == ("loaded 0", "loaded 2")
    z = np.linspace(-2, 2, 9)
    expected = np.tanh(z) * np.array([float(_erf_series(EXTENDED(x))) for x in z])
    np.testing.assert_allclose(ast.literal_eval(second[1]), expected, rtol=1e-14, atol=0)
