"""Streamlit pages: estimate a price, price a file, read the history of the platform, and see the served model.

The pages know the predictor's HTTP interface only, and import none of our other packages.
"""
