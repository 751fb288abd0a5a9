"""Contrastive decoding: methods as rules over logits, and the ways to run them on a model."""

from .adacad import AdaCAD
from .amateur import without_adapter
from .cad import CAD
from .calibration import Calibration
from .cfg import CFG
from .closed import closed, surface_forms
from .coiecd import COIECD
from .composed import Composed
from .contrastive import CD, ImprovedCD
from .dcd import DCD
from .dola import DoLa
from .icd import ICD
from .images import ImageError, open_image
from .m3id import M3ID
from .method import Branch, EarlyExit, Method
from .naming import Decoding, parse, parse_list
from .pictured import Pictured
from .plain import CutoffOnly, Plain
from .plausible import contrasted, plausible
from .processors import ContrastProcessor, processor
from .projections import Projections
from .promptless import Promptless
from .prompts import Messages, encode
from .ritual import RITUAL
from .ritual_plus import RITUALPlus
from .scoring import first_token, score
from .shift import Shift
from .table import METHODS
from .vcd import VCD
from .vdd import VDD
from .view import generate, wrap

__all__ = [
    "CAD",
    "CD",
    "CFG",
    "COIECD",
    "DCD",
    "ICD",
    "M3ID",
    "METHODS",
    "RITUAL",
    "VCD",
    "VDD",
    "AdaCAD",
    "Branch",
    "Calibration",
    "Composed",
    "ContrastProcessor",
    "CutoffOnly",
    "Decoding",
    "DoLa",
    "EarlyExit",
    "ImageError",
    "ImprovedCD",
    "Messages",
    "Method",
    "Pictured",
    "Plain",
    "Projections",
    "Promptless",
    "RITUALPlus",
    "Shift",
    "closed",
    "contrasted",
    "encode",
    "first_token",
    "generate",
    "open_image",
    "parse",
    "parse_list",
    "plausible",
    "processor",
    "score",
    "surface_forms",
    "without_adapter",
    "wrap",
]
