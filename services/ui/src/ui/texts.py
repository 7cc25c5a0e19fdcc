"""English texts that a page translates when it shows them. Modules that do not know Streamlit make them."""

from __future__ import annotations


class Text(str):
    """A text that is made of a template and values. Catalogues have the templates.

    Numbers among the values get separators of thousands.
    """

    template: str
    values: dict[str, object]

    def __new__(cls, template: str, **values: object) -> Text:
        """Fill in the values."""
        shown = {name: f"{value:,}" if isinstance(value, int) else value for name, value in values.items()}
        text = super().__new__(cls, template.format(**shown) if shown else template)
        text.template, text.values = template, values
        return text


def marked(template: str) -> str:
    """The template itself: a mark for a text that is translated later, which the test of the catalogues finds."""
    return template
