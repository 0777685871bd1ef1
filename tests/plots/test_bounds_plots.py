"""The figure shows the frames' quantiles, every width's bound and the limit, and says what it cannot draw."""

from __future__ import annotations

from io import BytesIO

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from meanfield.plots import bounds as module
from meanfield.plots.bounds import bounds_against_kept
from meanfield.plots.style import width_styles
from meanfield.theory.prefactor import PrefactorFit

WIDTHS = (16, 64, 256)
BOUNDS = {"cantelli": 2.0, "exponential": 20.0, "sup": 3000.0}
N_KEPT = 2 ** np.arange(9)


def grid() -> pd.DataFrame:
    rows = pd.DataFrame([(n, m) for n in WIDTHS for m in N_KEPT if m <= n], columns=["n_neurons", "n_kept"])
    return rows.assign(change=(rows["n_neurons"] - rows["n_kept"]) / (rows["n_kept"] * (rows["n_neurons"] - 1)))


def quantiles_frame() -> pd.DataFrame:
    change = grid().pop("change")
    of_change = {"change": change, "change_low": 0.9 * change, "change_high": 1.2 * change}
    of_magnitude = {name.replace("change", "magnitude"): 1.5 * values for name, values in of_change.items()}
    return grid().assign(quantile=0.95, **of_change, **of_magnitude)


def bounds_frame(names=tuple(BOUNDS)) -> pd.DataFrame:
    return pd.concat([grid().assign(bound=name, value=BOUNDS[name] * grid()["change"], delta=0.05) for name in names])


def limits_frame() -> pd.DataFrame:
    rows = pd.DataFrame({"n_kept": N_KEPT})
    return pd.concat([rows.assign(bound=name, value=height / N_KEPT) for name, height in BOUNDS.items()])


def below(frame: pd.DataFrame, n_neurons: int) -> pd.DataFrame:
    """The rows of one width with m < N, where nothing is zero."""
    return frame[(frame["n_neurons"] == n_neurons) & (frame["n_kept"] < n_neurons)]


def figure_of(**frames):
    return bounds_against_kept(**{"quantiles": quantiles_frame(), "bounds": bounds_frame(), **frames})


def test_one_panel_of_85_mm_a_bound_with_one_vertical_range():
    figure = figure_of(limits=limits_frame())
    assert figure.get_figwidth() * 25.4 == pytest.approx(85 * 3)
    assert [panel.get_title() for panel in figure.axes] == [module.TITLES[name] for name in BOUNDS]
    assert len({panel.get_ylim() for panel in figure.axes}) == 1
    low, high = figure.axes[0].get_ylim()
    assert low < quantiles_frame().query("change_low > 0")["change_low"].min()
    assert high > 3000


def test_points_are_the_positive_quantiles_with_their_intervals():
    for panel in figure_of().axes:
        assert [container.get_label() for container in panel.containers] == [f"$N={n}$" for n in WIDTHS]
        for container, n_neurons in zip(panel.containers, WIDTHS, strict=True):
            rows = below(quantiles_frame(), n_neurons)
            line, _, (bars,) = container.lines
            np.testing.assert_allclose(np.column_stack(line.get_data(orig=False)), rows[["n_kept", "change"]])
            ends = np.array([segment[:, 1] for segment in bars.get_segments()])
            np.testing.assert_allclose(ends, rows[["change_low", "change_high"]])


def test_thin_lines_are_the_bounds_in_the_colours_of_their_widths():
    for panel, name in zip(figure_of().axes, BOUNDS, strict=True):
        thin = {line.get_color(): line for line in panel.lines if line.get_linewidth() == 0.7}
        for n_neurons, style in width_styles(WIDTHS).items():
            rows = below(bounds_frame((name,)), n_neurons)
            np.testing.assert_allclose(np.column_stack(thin[style["color"]].get_data()), rows[["n_kept", "value"]])


@pytest.mark.parametrize(("apart", "coincide"), [(1.019, True), (1.021, False)])
def test_bounds_that_coincide_at_all_widths_are_one_line(apart, coincide):
    same = grid().assign(bound="theorem", delta=0.05, value=lambda rows: 9 / rows["n_kept"])
    same.loc[same["n_neurons"] == 256, "value"] *= apart
    figure = figure_of(bounds=same)
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    assert ("bound, all $N$ within 2%" in labels) == coincide
    assert ("bound at $N$" in labels) != coincide
    drawn = [line for line in figure.axes[0].lines if line.get_linestyle() == "-" and len(line.get_xdata())]
    assert len(drawn) == (1 if coincide else 3)
    np.testing.assert_allclose(drawn[0].get_ydata(), 9 / drawn[0].get_xdata(), rtol=0.02)


def test_a_single_width_keeps_its_own_line():
    one = bounds_frame(("cantelli",)).query("n_neurons == 64")
    labels = [text.get_text() for text in figure_of(bounds=one).legends[0].get_texts()]
    assert "bound at $N$" in labels


def test_a_ring_is_where_the_prefactor_was_fitted_and_titles_can_be_given():
    fit = PrefactorFit(2.0, 64, 8, 1e-3, 33, 0.05, "multilayer")
    both = pd.concat([bounds_frame(("cantelli",)), bounds_frame(("sup",)).assign(bound="theorem")])
    figure = figure_of(bounds=both, fitted=fit, titles={"theorem": "2 hidden layers"})
    assert [panel.get_title() for panel in figure.axes] == ["Cantelli, exact moments", "2 hidden layers"]
    rings = [[line for line in panel.lines if line.get_label() == "fitted at $N=64$, $m=8$"] for panel in figure.axes]
    assert [len(found) for found in rings] == [0, 1]
    np.testing.assert_allclose(rings[1][0].get_xydata(), [(8, fit.bound(8, 64))])


def test_the_theorems_bound_is_beside_quantiles_of_the_magnitude():
    figure = figure_of(bounds=pd.concat([bounds_frame(("cantelli",)), bounds_frame(("sup",)).assign(bound="theorem")]))
    for panel, quantity in zip(figure.axes, ("change", "magnitude"), strict=True):
        for container, n_neurons in zip(panel.containers, WIDTHS, strict=True):
            rows = below(quantiles_frame(), n_neurons)
            np.testing.assert_allclose(container.lines[0].get_ydata(orig=False), rows[quantity])


@pytest.mark.parametrize(("names", "change"), [(["theorem"], "$|L_A-L|$"), (["theorem", "cantelli"], "$L_A-L$")])
def test_the_axis_names_the_magnitude_where_nothing_else_is_drawn(names, change):
    figure = figure_of(bounds=pd.concat([bounds_frame(("sup",)).assign(bound=name) for name in names]))
    assert figure.axes[0].get_ylabel() == f"loss change, {change}:\n95% quantile and bound"


def test_other_quantiles_are_not_drawn():
    both = pd.concat([quantiles_frame(), quantiles_frame().assign(quantile=0.5)])
    assert len(figure_of(quantiles=both).axes[0].containers[0].lines[0].get_xdata()) == len(below(both, 16)) / 2
    with pytest.raises(ValueError, match=r"must hold the 0.95-quantile, got only \[0.5\]"):
        figure_of(quantiles=quantiles_frame().assign(quantile=0.5))


def test_the_thick_line_is_the_limit():
    for panel, name in zip(figure_of(limits=limits_frame()).axes, BOUNDS, strict=True):
        (thick,) = (line for line in panel.lines if "infty" in line.get_label())
        assert thick.get_linewidth() > 2
        assert to_hex(thick.get_color()) == "#000000"
        np.testing.assert_allclose(np.column_stack(thick.get_data()), np.column_stack([N_KEPT, BOUNDS[name] / N_KEPT]))


def test_a_bound_may_have_no_limit():
    figure = figure_of(limits=limits_frame().query("bound != 'sup'"))
    thick = [[line for line in panel.lines if "infty" in line.get_label()] for panel in figure.axes]
    assert [len(lines) for lines in thick] == [1, 1, 0]


def test_the_label_says_which_quantile():
    figure = figure_of(
        bounds=bounds_frame().assign(delta=0.002), quantiles=quantiles_frame().assign(quantile=1 - 0.002)
    )
    assert figure.axes[0].get_ylabel() == "loss change, $L_A-L$:\n99.8% quantile and bound"
    assert figure.axes[0].get_xlabel() == "neurons kept, $m$"


def test_an_undefined_bound_is_left_out():
    frame = bounds_frame()
    undefined = frame.assign(value=frame["value"].mask(frame["bound"] == "sup"))
    assert [panel.get_title() for panel in figure_of(bounds=undefined).axes] == [
        "Cantelli, exact moments",
        "exponential tail",
    ]


def test_nothing_is_clipped_too_small_or_left_behind():
    settings = dict(matplotlib.rcParams)
    for names in (tuple(BOUNDS), ("cantelli",)):
        figure = figure_of(bounds=bounds_frame(names), limits=limits_frame())
        figure.savefig(BytesIO(), format="png")
        page, content = figure.bbox_inches, figure.get_tightbbox()
        assert content.x0 >= 0
        assert content.y0 >= 0
        assert content.x1 <= page.x1
        assert content.y1 <= page.y1
        written = [text for text in figure.findobj(Text) if text.get_text()]
        assert min(text.get_fontsize() for text in written) >= 7
    assert dict(matplotlib.rcParams) == settings
    assert plt.get_fignums() == []


def test_the_legend_names_points_lines_and_limit_once():
    (legend,) = figure_of(limits=limits_frame()).legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == [*(f"$N={n}$" for n in WIDTHS), "bound at $N$", r"bound at $N\to\infty$"]


@pytest.mark.parametrize("name", ["quantiles", "bounds", "limits"])
class TestErrors:
    @staticmethod
    def frame(name):
        return {"quantiles": quantiles_frame, "bounds": bounds_frame, "limits": limits_frame}[name]()

    def test_missing_columns(self, name):
        with pytest.raises(ValueError, match=rf"{name} lacks the columns \['n_kept'\]: it needs"):
            figure_of(**{name: self.frame(name).drop(columns="n_kept")})

    def test_no_rows(self, name):
        with pytest.raises(ValueError, match=f"{name} has no rows: there is nothing to draw"):
            figure_of(**{name: self.frame(name).iloc[:0]})

    def test_words_where_numbers_belong(self, name):
        with pytest.raises(TypeError, match=rf"{name}\['n_kept'\] must hold numbers, got dtype"):
            figure_of(**{name: self.frame(name).astype({"n_kept": str})})

    def test_repeated_rows(self, name):
        frame = self.frame(name)
        with pytest.raises(
            ValueError, match=rf"{name} has more than one row for .*'n_kept': '1'.*: select one network"
        ):
            figure_of(**{name: pd.concat([frame, frame.iloc[:1]])})


def test_several_delta():
    with pytest.raises(ValueError, match=r"bounds must have one delta, got \[0\.01, 0\.05\]: select one"):
        figure_of(bounds=bounds_frame().assign(delta=lambda rows: np.where(rows["n_kept"] > 3, 0.05, 0.01)))


@pytest.mark.parametrize(("value", "got"), [(np.nan, 0), (0.0, 0)])
def test_nothing_to_draw(value, got):
    with pytest.raises(ValueError, match=f"positive values of 1 to 4 bounds, got {got}: select some"):
        figure_of(bounds=bounds_frame().assign(value=value))


def test_more_than_four_bounds():
    more = pd.concat([bounds_frame(), *(bounds_frame(("sup",)).assign(bound=name) for name in ("theorem", "other"))])
    with pytest.raises(ValueError, match="positive values of 1 to 4 bounds, got 5: select some"):
        figure_of(bounds=more)


def test_public_names_exist():
    assert all(hasattr(module, name) for name in module.__all__)
