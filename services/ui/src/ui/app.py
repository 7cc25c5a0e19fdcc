"""Entry point of the pages: `streamlit run ui/app.py`. Each page is a module with a function `show`."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from ui import history, model, operations, price, visitor
from ui.language import _, choose
from ui.predictor import Predictor
from ui.prometheus import Prometheus
from ui.settings import UiSettings, load


@st.cache_resource
def _settings() -> UiSettings:
    return load()


@st.cache_resource
def _predictor() -> Predictor:
    settings = _settings()
    return Predictor(settings.predictor_url, settings.predictor_api_key)


@st.cache_resource
def _prometheus() -> Prometheus:
    return Prometheus(_settings().prometheus_url)


def _links(settings: UiSettings) -> None:
    """Link the platform's other pages whose addresses are set."""
    links = {"Airflow": settings.airflow_url, "MLflow": settings.mlflow_url, "Grafana": settings.grafana_url}
    for name, url in links.items():
        if url:
            st.sidebar.link_button(name, url, icon=":material/open_in_new:", width="stretch")


def _show_files() -> None:
    from ui import files  # loads Polars, which takes half a second and 20 MiB

    files.show(_predictor())


def _show_model() -> None:
    model.show(_predictor(), _settings().mlflow_url, _settings().airflow_url)


def main() -> None:
    """Show the selected page."""
    # the icon is a file: a browser would ask a font service for the picture of a named icon
    st.set_page_config(page_title=_("House prices"), page_icon=str(Path(__file__).with_name("icon.svg")), layout="wide")
    pages = [
        st.Page(lambda: price.show(_predictor()), title=_("Price"), icon=":material/sell:", default=True),
        st.Page(_show_files, title=_("Files"), icon=":material/upload_file:", url_path="files"),
        st.Page(lambda: history.show(_predictor()), title=_("History"), icon=":material/history:", url_path="history"),
        st.Page(_show_model, title=_("Model"), icon=":material/model_training:", url_path="model"),
    ]
    if _settings().prometheus_url:
        pages.append(
            st.Page(
                lambda: operations.show(_prometheus()),
                title=_("Operations"),
                icon=":material/monitor_heart:",
                url_path="operations",
            )
        )
    page = st.navigation(pages)
    choose()
    st.html(Path(__file__).with_name("print.css"))
    _links(_settings())
    visitor.show()
    page.run()


main()
