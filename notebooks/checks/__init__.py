"""Checks of the exercises, one module a part of the course: each says what is wrong, or that all is well.

Call them as `checks.check_...(answer)`. `common` tells how they work and how to write one.
"""

import importlib
import pkgutil

from notebooks.checks.common import Check

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    for _name, _table in vars(importlib.import_module(_module.name)).items():
        if _name.startswith("check_"):
            if _name in globals():
                raise ImportError(f"two checks are called {_name}; one is in {_module.name}")
            globals()[_name] = Check(_table)
