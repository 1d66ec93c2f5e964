"""The animations of the course and the scenes that make them: `python -m gifs --list`."""
