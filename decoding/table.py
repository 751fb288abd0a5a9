"""Every decoding method by the name it has on the command line."""

from __future__ import annotations

from .adacad import AdaCAD
from .cad import CAD
from .calibration import Calibration
from .cfg import CFG
from .coiecd import COIECD
from .contrastive import CD, ImprovedCD
from .dcd import DCD
from .dola import DoLa
from .icd import ICD
from .m3id import M3ID
from .method import Method
from .plain import CutoffOnly, Plain
from .ritual import RITUAL
from .ritual_plus import RITUALPlus
from .vcd import VCD
from .vdd import VDD

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
    "ritual": RITUAL,
    "ritual-plus": RITUALPlus,
    "vcd": VCD,
    "vdd": VDD,
    "m3id": M3ID,
    "icd": ICD,
    "dcd": DCD,
    "calibration": Calibration,
}
