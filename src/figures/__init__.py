"""Figures, drawn with matplotlib's object interface: no pyplot, no global state, safe in threads.

Every function returns a :class:`matplotlib.figure.Figure` that nothing else holds on to; :func:`save` writes it.
"""

from matplotlib.figure import Figure as Figure

from cxrlab.figures.canvas import CLASSES as CLASSES
from cxrlab.figures.canvas import save as save
from cxrlab.figures.curves import calibration as calibration
from cxrlab.figures.curves import confusion_matrix as confusion_matrix
from cxrlab.figures.curves import decision_curve as decision_curve
from cxrlab.figures.curves import fold_curves as fold_curves
from cxrlab.figures.curves import intervals as intervals
from cxrlab.figures.curves import learning_curves as learning_curves
from cxrlab.figures.curves import precision_recall as precision_recall
from cxrlab.figures.curves import roc as roc
from cxrlab.figures.curves import score_distribution as score_distribution
from cxrlab.figures.curves import stacked_histogram as stacked_histogram
from cxrlab.figures.forest import Point as Point
from cxrlab.figures.forest import Row as Row
from cxrlab.figures.forest import forest as forest
from cxrlab.figures.heat_map import Square as Square
from cxrlab.figures.heat_map import heat_map as heat_map
from cxrlab.figures.images import before_after as before_after
from cxrlab.figures.images import class_means as class_means
from cxrlab.figures.images import contact_sheet as contact_sheet
from cxrlab.figures.images import image_grid as image_grid
from cxrlab.figures.network import Layer as Layer
from cxrlab.figures.network import network_diagram as network_diagram
from cxrlab.figures.saliency import coloured as coloured
from cxrlab.figures.saliency import deletion_and_insertion as deletion_and_insertion
from cxrlab.figures.saliency import inside_against_area as inside_against_area
from cxrlab.figures.saliency import overlay as overlay
from cxrlab.figures.saliency import overlays as overlays
