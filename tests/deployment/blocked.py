"""Run a script as if packages were not installed: ``blocked.py jax,numpyro script.py args``."""

import runpy
import sys
from importlib.abc import MetaPathFinder


class Blocked(MetaPathFinder):
    def __init__(self, names):
        self.names = set(names)

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


if __name__ == "__main__":
    names, script, *_ = sys.argv[1:]
    sys.meta_path.insert(0, Blocked(names.split(",")))
    sys.argv = sys.argv[2:]
    runpy.run_path(script, run_name="__main__")
