"""Commands that make what is stored below `data/`; run one as `python -m utils.recipes.<name>`."""
