"""Config files: Python modules with a function `get_config`."""

import importlib.util
from pathlib import Path
from types import ModuleType


def beside(file: str | Path, name: str) -> ModuleType:
    """The config NAME.py in the folder of `file`, from wherever the command is started."""
    path = Path(file).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
