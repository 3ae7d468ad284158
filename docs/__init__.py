"""Pages for users and maintainers; `python -m docs.generate` writes the generated ones."""
