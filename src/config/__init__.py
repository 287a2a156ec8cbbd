"""From a composed configuration to objects: one way to build a node, one check that finds every mistake first."""

from cxrlab.config.build import build
from cxrlab.config.compose import compose, keys_of
from cxrlab.config.preflight import Problems, check_names

__all__ = ["Problems", "build", "check_names", "compose", "keys_of"]
