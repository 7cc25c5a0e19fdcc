"""Pages for people, as Jinja templates in `templates/`: validation, decision, batch report and model card."""
