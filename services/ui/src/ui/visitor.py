"""The signed-in user, and a link to sign out.

The login (charts/oauth2-proxy) sends the name in a header. Without a login, a visitor could send one; so the name is
only shown, to the visitor.
"""

from __future__ import annotations

from html import escape

import streamlit as st

from ui.language import _

USER = "X-Forwarded-User"
SIGN_OUT = "/oauth2/sign_out?rd=%2F"  # path of the login, on the address of the pages


def show() -> None:
    """Show the user and a link to sign out, if the login is in front of the pages."""
    if user := st.context.headers.get(USER):
        signed_in = escape(_("Signed in as {user}", user=user))
        # a link of Streamlit opens a tab of its own, and the first one would stay signed in
        st.sidebar.html(f'{signed_in} · <a href="{SIGN_OUT}" target="_self">{escape(_("Sign out"))}</a>')
