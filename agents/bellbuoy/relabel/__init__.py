"""Relabeling: rules that rewrite, keep or drop label sets. The core runs them; this configures them."""

from bellbuoy._core import Relabeler
from bellbuoy.relabel.config import RelabelConfig, relabeler

__all__ = ["RelabelConfig", "Relabeler", "relabeler"]
