"""What the study of the dimension says: tables, figures and the verdict in words, from its records alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from meanfield.plots import dimension as plots
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
from meanfield.studies.dimension_tables import (
    exponent_in_dimension,
    mean_ratios,
    needed_numbers,
    needed_ratios,
    relative_changes,
    uncensored,
    where_all_seeds_are,
)
from meanfield.studies.dropped_layers import ALL_LAYERS
from meanfield.studies.report import Report, Study, diverged_runs, plus_minus
from meanfield.studies.store import Store
from meanfield.theory.prefactor import describe_checked
from meanfield.theory.scaling import ExponentFit, equivalence_test, fit_exponent
from meanfield.theory.seeds import mean_over_seeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["STUDY", "report"]

REFERENCE = "two-layer"
LEAST_FACTOR = 16
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
    "some seed needs more, or fewer, than were measured. Ratios compare networks of the same seed, each change in "
    "units of its own network's gain; geometric means over seeds with 90% Student intervals of the logarithms."
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
    ratios = needed_ratios(needed, REFERENCE)
    by_dimension = mean_ratios(ratios, ["setting", "dim"])
    forms, limits = _held_forms(finished, curve), _held_limits(finished, summary)
    tables = {"summary": summary, "changes": changes, "needed": needed, "ratio": by_dimension}
    tables |= {"theorem": _checked(forms), "discrepancy": _checked(limits)}
    verdict = [*_verdict(finished[0].horizon, needed, forms, limits), *_on_depth(ratios)]
    table = _short(_of_widest(summary), needed, by_dimension)
    words = [*verdict, LEGEND, MEANING, OF_FORMS, *named]
    return Report(tables, _figures(_of_widest(changes), needed), table, words)


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


def _short(summary: pd.DataFrame, needed: pd.DataFrame, ratios: pd.DataFrame) -> pd.DataFrame:
    """Return the table to print: a row a dimension, risk and needed number of each setting, and their ratios."""
    whole = uncensored(needed[needed["dropped"] == ALL_LAYERS])
    columns = {}
    for setting in _present(summary):
        for name, rows in (("risk", summary), ("needed", whole)):
            columns[f"{name}, {setting}"] = _column(rows[rows["setting"] == setting], name)
    for deeper, rows in ratios.groupby("setting"):
        columns[f"{deeper} / {REFERENCE}"] = rows.set_index("dim").apply(_with_interval, axis=1)
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


def _on_depth(ratios: pd.DataFrame) -> Iterator[str]:
    """Say whether the deeper networks need more neurons than those of two layers, and whether that goes with d."""
    for setting, (n_hidden, _) in list(SETTINGS.items())[1:]:
        here = where_all_seeds_are(ratios[ratios["setting"] == setting])
        yield f"does depth cost neurons? {setting} over {REFERENCE}, needed for the same relative change:"
        if here["seed"].nunique() < 2:
            yield "  not judged: it needs 2 seeds, and a dimension at which none is censored: add seeds or neurons"
            continue
        yield f"  {_compared(here, n_hidden)}"
        yield f"  with d the ratio: {_ratio_in_dimension(here)}"


def _compared(ratios: pd.DataFrame, n_hidden: int) -> str:
    """Say the mean ratio over all dimensions, of one hidden layer and of all together."""
    each = mean_ratios(ratios, ["setting"]).iloc[0]
    dims = f"mean over d = {', '.join(map(str, sorted(ratios['dim'].unique())))}"
    together = each[["ratio", "low", "high"]] * n_hidden
    return (
        f"{_more(each)} in each hidden layer, {_with_interval(each)} times as many; {_more(together)} in its "
        f"{n_hidden} hidden layers together, {_with_interval(together)} times as many ({dims})"
    )


def _more(ratio: pd.Series) -> str:
    if ratio["low"] > 1:
        return "MORE"
    return "FEWER" if ratio["high"] < 1 else "NOT shown to be more or fewer"


def _with_interval(ratio: pd.Series) -> str:
    return f"{ratio['ratio']:.3f} ({ratio['low']:.3f}..{ratio['high']:.3f})"


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
    if fit.x_max < LEAST_FACTOR * fit.x_min:
        return f"not judged over less than a factor {LEAST_FACTOR} in d"
    if equivalence_test(fit, MARGIN):
        return f"does not depend on d within +-{MARGIN:g}"
    if fit.high < -MARGIN:
        return "falls as d grows"
    if fit.low <= MARGIN:
        return f"undecided, neither within nor wholly outside +-{MARGIN:g}"
    if fit.high < 1:
        return "grows, more slowly than d"
    return "grows faster than d" if fit.low > 1 else "grows, linear in d not excluded"


def _ratio_in_dimension(ratios: pd.DataFrame) -> str:
    try:
        return _judged(fit_exponent(ratios["dim"], ratios["ratio"], ratios["seed"], x_name="dimensions"))
    except ValueError as error:
        return f"not judged: {error}"
