"""Relabeling: rules that rewrite, keep or drop label sets. The rules run in the core; this is how they are configured."""

from bellbuoy._core import Relabeler
from bellbuoy.relabel.config import RelabelConfig, relabeler

__all__ = ["RelabelConfig", "Relabeler", "relabeler"]
