"""What the study of the dimension says: tables, figures and the verdict in words, from its records alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from meanfield.plots import dimension as plots
from meanfield.plots.style import mean_over_seeds
from meanfield.studies.dimension import (
    ACTIVATION,
    ALLOWED,
    NOISE,
    SETTINGS,
    DimensionRun,
    cost,
    memory,
    one_run,
)
from meanfield.studies.dimension_bounds import HeldForm, discrepancies, held_discrepancy, held_form
from meanfield.studies.dimension_tables import exponent_in_dimension, needed_numbers, relative_changes, uncensored
from meanfield.studies.dropped_layers import ALL_LAYERS
from meanfield.studies.report import Report, Study, diverged_runs, plus_minus
from meanfield.studies.store import Store
from meanfield.theory.prefactor import describe_checked
from meanfield.theory.scaling import ExponentFit, equivalence_test, fit_exponent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["STUDY", "report"]

MARGIN = 0.1  # fixed before the values were seen
NAMES = {
    "two-layer": "two layers of weights, all trained",
    "three-layer": "three layers of weights, all trained",
    "three-layer, internal": "three layers of weights, the internal one trained",
}
THEOREMS = {name: f"Theorem {1 if n_hidden == 1 else 2}" for name, (n_hidden, _) in SETTINGS.items()}
LIMIT_THEOREM = "Theorem 5.4 of Araújo, Oliveira & Yukimura"
LEGEND = (
    f"needed: neurons kept in every hidden layer for a mean loss change of {ALLOWED:.0%} of L(0) - L(T), the "
    "finite-population factor (N - m)/(N - 1) taken off; +- is half the 90% Student interval over seeds; - where "
    "some seed needs more, or fewer, than were measured."
)
MEANING = (
    "The theorems bound the change from above, by sqrt(log m/m) for two layers and sqrt(d/A_min) for more, times a "
    "constant that is not known. Numbers that do not grow with d agree with both, and show the second loose here, not "
    "wrong: other laws, starts or times may need more. Numbers that grow over a finite range would refute neither."
)
OF_FORMS = (
    "The forms' constants are fitted at the smallest d: changes that grow with d, or differ with N, by more than the "
    "form would refute it; smaller ones cannot, and ratios that fall with d say how loose it gets. For the distance to "
    "the mean-field limit the widest network N' stands for it, held to form(N) + form(N'): both take the same steps on "
    "the same samples, so that this could refute the term sqrt(d/N), but none in alpha, and no distance that all "
    "widths share is seen."
)


def report(store: Store, runs: Sequence[DimensionRun]) -> Report:
    """Read the finished ``runs`` back and conclude; diverged ones are named and left out."""
    diverged = diverged_runs(store, runs)
    finished = [run for run in runs if run not in diverged]
    named = [
        f"{run.setting}, d = {run.dim}, N = {run.n_neurons}, seed {run.seed}: {word}" for run, word in diverged.items()
    ]
    if not finished:
        return Report({}, {}, pd.DataFrame(), named)
    summary, curve = (store.frames(name, finished) for name in ("summary", "curve"))
    changes = relative_changes(summary, curve)
    needed = needed_numbers(_of_widest(changes), ALLOWED)
    forms, limits = _held_forms(finished, curve), _held_limits(finished, summary)
    tables = {"summary": summary, "changes": changes, "needed": needed}
    tables |= {"theorem": _checked(forms), "discrepancy": _checked(limits)}
    words = [*_verdict(finished[0].horizon, needed, forms, limits), LEGEND, MEANING, OF_FORMS, *named]
    return Report(tables, _figures(_of_widest(changes), needed), _short(_of_widest(summary), needed), words)


STUDY = Study("dimension", one_run, cost, memory, report)


def _of_widest(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["n_neurons"] == rows["n_neurons"].max()]


def _held_forms(runs: Sequence[DimensionRun], curve: pd.DataFrame) -> dict[str, HeldForm | str]:
    """Hold the form of each setting's theorem against its quantiles; the reason where that cannot be done."""
    return {
        setting: _or_reason(
            held_form, [run for run in runs if run.setting == setting], curve[curve["setting"] == setting]
        )
        for setting in _present(curve)
    }


def _held_limits(runs: Sequence[DimensionRun], summary: pd.DataFrame) -> dict[str, HeldForm | str]:
    """Hold the form of the distance to the limit against several layers; the reason where that cannot be done."""
    gaps = discrepancies(runs, summary)
    deep = [setting for setting in _present(summary) if SETTINGS[setting][0] > 1]
    return {setting: _or_reason(held_discrepancy, gaps[gaps["setting"] == setting]) for setting in deep}


def _or_reason(hold: Callable[..., HeldForm], *measured: Any) -> HeldForm | str:
    try:
        return hold(*measured)
    except ValueError as error:
        return f"not judged: {error}"


def _checked(held: dict[str, HeldForm | str]) -> pd.DataFrame:
    parts = [one.checked.assign(setting=setting) for setting, one in held.items() if not isinstance(one, str)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["setting"])


def _figures(changes: pd.DataFrame, needed: pd.DataFrame) -> dict[str, Figure]:
    whole = changes[changes["dropped"] == ALL_LAYERS]
    return {
        "needed-against-dimension": plots.needed_against_dimension(needed, uncensored(needed)),
        "change-against-kept": plots.change_against_kept(whole, ALLOWED),
    }


def _short(summary: pd.DataFrame, needed: pd.DataFrame) -> pd.DataFrame:
    """Return the table to print: a row a dimension, risk and needed number of each setting."""
    whole = uncensored(needed[needed["dropped"] == ALL_LAYERS])
    columns = {}
    for setting in _present(summary):
        for name, rows in (("risk", summary), ("needed", whole)):
            columns[f"{name}, {setting}"] = _column(rows[rows["setting"] == setting], name)
    table = pd.DataFrame(columns).reindex(sorted(summary["dim"].unique())).fillna("-")
    return table.rename_axis("d").reset_index()


def _present(rows: pd.DataFrame) -> list[str]:
    return [setting for setting in SETTINGS if (rows["setting"] == setting).any()]


def _column(rows: pd.DataFrame, name: str) -> pd.Series:
    means = mean_over_seeds(rows, "dim", name).set_index("dim")
    return pd.Series([plus_minus(*pair) for pair in means.itertuples(index=False)], index=means.index, dtype=object)


def _verdict(
    horizon: float,
    needed: pd.DataFrame,
    forms: dict[str, HeldForm | str],
    limits: dict[str, HeldForm | str],
) -> Iterator[str]:
    widest = int(needed["n_neurons"].max())
    yield (
        f"isotropic Gaussians, {ACTIVATION} with biases, N = {widest} in every hidden layer, w ~ N(0, I/d), "
        f"alpha d = {NOISE:g}, T = {horizon:g}: outside the theorems' assumptions (the activation is not bounded)"
    )
    present = _present(needed)
    for setting in present:
        yield NAMES[setting]
        here = needed[needed["setting"] == setting]
        for dropped in sorted(here["dropped"].unique()):
            yield f"  needed in {dropped}: {_exponent(here[here['dropped'] == dropped])}"
        yield f"  form of {THEOREMS[setting]} on |L_A - L|: {_on_form(forms[setting])}"
        if setting in limits:
            yield f"  form of {LIMIT_THEOREM} on |L_N - L_{widest}|: {_on_form(limits[setting], 'differences')}"
    for setting in present[1:]:
        yield f"{setting} over {present[0]}, needed in all layers: {_ratio(needed, setting, present[0])}"


def _on_form(held: HeldForm | str, measured: str = "quantiles") -> str:
    """Say whether a form is refuted away from where its constant was fitted, and how loose it is in each dimension."""
    if isinstance(held, str):
        return held
    largest = held.checked.groupby("dim")["ratio"].max()
    by_dimension = ", ".join(f"{ratio:.2g} ({dim})" for dim, ratio in largest.items())
    return (
        f"{describe_checked(held.checked, measured)}; largest ratio to it (d): {by_dimension}; constant "
        f"{held.constant:.3g} fitted at {held.place}"
    )


def _exponent(rows: pd.DataFrame) -> str:
    try:
        words = _judged(exponent_in_dimension(rows))
    except ValueError as error:
        words = f"not judged: {error}"
    censored, n_seeds = rows[rows["censored"] != ""], rows["seed"].nunique()
    places = censored.groupby(["dim", "censored"])
    beyond = [f"{len(part)} of {n_seeds} seeds need {word} at d = {dim}" for (dim, word), part in places]
    return f"{words}; left out of the fit: {', '.join(beyond)}" if beyond else words


def _judged(fit: ExponentFit) -> str:
    """Say how a number goes with the dimension: the interval of its exponent beside 0 and 1."""
    return f"{_word(fit)}: {fit.describe().replace('x in', 'd in')}"


def _word(fit: ExponentFit) -> str:
    if equivalence_test(fit, MARGIN):
        return f"does not depend on d within +-{MARGIN:g}"
    if fit.high < -MARGIN:
        return "falls as d grows"
    if fit.low <= MARGIN:
        return "undecided"
    if fit.high < 1:
        return "grows, more slowly than d"
    return "grows faster than d" if fit.low > 1 else "grows, linear in d not excluded"


def _ratio(needed: pd.DataFrame, setting: str, reference: str) -> str:
    """Judge the ratio of two settings' needed numbers, seed by seed."""
    rows = uncensored(needed[needed["dropped"] == ALL_LAYERS])
    first, second = (rows[rows["setting"] == name] for name in (setting, reference))
    pairs = first.merge(second, on=["dim", "seed"], suffixes=("", "_reference"))
    ratio = pairs["needed"] / pairs["needed_reference"]
    try:
        return _judged(fit_exponent(pairs["dim"], ratio, pairs["seed"]))
    except ValueError as error:
        return f"not judged: {error}"
