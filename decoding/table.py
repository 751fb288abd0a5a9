"""Every decoding method by the name it has on the command line."""

from __future__ import annotations

from .adacad import AdaCAD
from .cad import CAD
from .cfg import CFG
from .coiecd import COIECD
from .contrastive import CD, ImprovedCD
from .dola import DoLa
from .method import Method
from .plain import CutoffOnly, Plain

METHODS: dict[str, type[Method]] = {
    "plain": Plain,
    "cutoff-only": CutoffOnly,
    "cad": CAD,
    "adacad": AdaCAD,
    "coiecd": COIECD,
    "cfg": CFG,
    "cd": CD,
    "improved-cd": ImprovedCD,
    "dola": DoLa,
}
