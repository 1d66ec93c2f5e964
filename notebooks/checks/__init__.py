"""Checks of the exercises: each says what is wrong, or that all is well.

One module a notebook; every `check_*` function of theirs can be called as `checks.check_...`. A stub that
returns None is told to be unfinished; a wrong answer raises AssertionError with the mistake.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    _names = vars(importlib.import_module(_module.name))
    globals().update({name: value for name, value in _names.items() if name.startswith("check_")})
