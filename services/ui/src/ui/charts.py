"""Charts of an estimate. Each shows what a text beside it says, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import altair as alt
import pandas as pd

from ui.language import _, chart_locale, dollars
from ui.predictor import Json
from ui.texts import marked
from ui.words import feature_value

Chart = TypeVar("Chart", alt.Chart, alt.LayerChart)
SHOWN = 8  # contributions with a bar of their own
ADDS, TAKES, TOTAL = marked("adds"), marked("takes off"), marked("total")


@dataclass(frozen=True)
class Step:
    """One bar of the waterfall, from `start` to `end` in US dollars."""

    label: str
    start: float
    end: float
    kind: str  # ADDS, TAKES or TOTAL

    @property
    def text(self) -> str:
        """The amount beside the bar, with a sign if it is a contribution."""
        if self.kind == TOTAL:
            return dollars(self.end)
        return ("+" if self.kind == ADDS else "-") + dollars(abs(self.end - self.start))


def steps(answer: Json) -> list[Step]:
    """The bars from the base value to the price. Contributions after the `SHOWN` largest are one bar."""
    at = float(answer["base_value"])
    bars = [Step(_("A house without any information"), 0, at, TOTAL)]
    contributions = [(_label(each), float(each["contribution"])) for each in answer["contributions"]]
    rest = contributions[SHOWN:]
    if rest:
        contributions = [
            *contributions[:SHOWN],
            (_("{count} other values", count=len(rest)), sum(amount for label, amount in rest)),
        ]
    for label, amount in contributions:
        bars.append(Step(label, at, at + amount, ADDS if amount >= 0 else TAKES))
        at += amount
    return [*bars, Step(_("Estimated price"), 0, float(answer["price"]), TOTAL)]


def waterfall(answer: Json) -> alt.LayerChart:
    """How the contributions lead from the base value to the price."""
    bars = steps(answer)
    frame = pd.DataFrame(
        {
            "label": [f"{number}. {bar.label}" for number, bar in enumerate(bars, 1)],  # titles can be the same
            "start": [bar.start for bar in bars],
            "end": [bar.end for bar in bars],
            "right": [max(bar.start, bar.end) for bar in bars],
            "kind": [_(bar.kind) for bar in bars],
            "amount": [bar.text for bar in bars],
        }
    )
    colors = alt.Scale(domain=[_(ADDS), _(TAKES), _(TOTAL)], range=["#2f6db5", "#e08a2e", "#8a93a1"])
    base = alt.Chart(frame).encode(
        y=alt.Y("label:N", sort=None, title=None, axis=alt.Axis(labelLimit=320, labelOverlap=False)),
        tooltip=[alt.Tooltip("label", title=_("Value")), alt.Tooltip("amount", title=_("Amount"))],
    )
    length = base.mark_bar(height={"band": 0.7}).encode(
        x=alt.X(
            "start:Q",
            title=_("US dollars"),
            axis=alt.Axis(format="$,.0f"),
            scale=alt.Scale(domain=[0, 1.15 * max(frame["right"])]),
        ),
        x2="end:Q",
        color=alt.Color("kind:N", scale=colors, title=None, legend=alt.Legend(orient="top")),
    )
    amount = base.mark_text(align="left", dx=4).encode(x="right:Q", text="amount:N")
    height = 26 * len(bars) + 100  # with axis and legend
    description = _("How the values lead to the price")
    chart: alt.LayerChart = (length + amount).properties(height=height, description=description)
    return localized(chart)


def interval(answer: Json) -> alt.LayerChart:
    """The price as a point within its prediction interval."""
    frame = pd.DataFrame([{"low": answer["low"], "high": answer["high"], "price": answer["price"]}])
    x = alt.X("low:Q", title=_("US dollars"), axis=alt.Axis(format="$,.0f"), scale=alt.Scale(zero=False, padding=30))
    tooltip = [alt.Tooltip(name, format="$,.0f") for name in ("low", "price", "high")]
    base = alt.Chart(frame).encode(tooltip=tooltip)
    length = base.mark_bar(height=14, color="#b9cfe9").encode(x=x, x2="high:Q")
    point = base.mark_point(filled=True, size=180, color="#2f6db5").encode(x="price:Q")
    description = _("The price within its interval")
    chart: alt.LayerChart = (length + point).properties(height=70, description=description)
    return localized(chart)


def localized(chart: Chart) -> Chart:
    """The chart with numbers in the format of the page's language."""
    shown: Chart = chart.configure(locale=alt.Locale(number=alt.NumberLocale(**chart_locale())))
    return shown


def _label(contribution: Json) -> str:
    value = feature_value(contribution)
    title = _(contribution["title"])
    return f"{title}: {value}" if value else title
