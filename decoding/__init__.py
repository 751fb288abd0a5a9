"""Contrastive decoding: methods as rules over logits, and the ways to run them on a model."""

from .adacad import AdaCAD
from .amateur import without_adapter
from .cad import CAD
from .cfg import CFG
from .coiecd import COIECD
from .contrastive import CD, ImprovedCD
from .dola import DoLa
from .method import Branch, EarlyExit, Method
from .naming import Decoding, parse, parse_list
from .plain import CutoffOnly, Plain
from .plausible import contrasted, plausible
from .processors import ContrastProcessor, processor
from .promptless import Promptless
from .prompts import Messages, encode
from .scoring import first_token, score
from .table import METHODS
from .view import generate, wrap

__all__ = [
    "CAD",
    "CD",
    "CFG",
    "COIECD",
    "METHODS",
    "AdaCAD",
    "Branch",
    "ContrastProcessor",
    "CutoffOnly",
    "Decoding",
    "DoLa",
    "EarlyExit",
    "ImprovedCD",
    "Messages",
    "Method",
    "Plain",
    "Promptless",
    "contrasted",
    "encode",
    "first_token",
    "generate",
    "parse",
    "parse_list",
    "plausible",
    "processor",
    "score",
    "without_adapter",
    "wrap",
]
