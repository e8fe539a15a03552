"""The pictures of a report, drawn from report dictionaries alone, so that they can be drawn again without the model.

`pictures` says which a report has; `draw` is the one that it always has. A number that somebody else measured is in
none of them (`memjax.evaluation.published` has tables of those). `emergence` and `usage` draw the log of a run,
`hippo_history` and `routing` need no report: they draw what a memory holds, and which memory a token goes to.
"""

from memjax.evaluation.figures import hippo_history as hippo_history
from memjax.evaluation.figures import routing as routing
from memjax.evaluation.plots.accuracy_grid import grid as grid
from memjax.evaluation.plots.book import NAMES as NAMES
from memjax.evaluation.plots.book import Picture as Picture
from memjax.evaluation.plots.book import pictures as pictures
from memjax.evaluation.plots.decoding_cost import decoding as decoding
from memjax.evaluation.plots.loss_by_position import positions as positions
from memjax.evaluation.plots.needle_map import needles as needles
from memjax.evaluation.plots.recall_emergence import emergence as emergence
from memjax.evaluation.plots.rows import state_size as state_size
from memjax.evaluation.plots.state_frontier import frontier as frontier
from memjax.evaluation.plots.summary import draw as draw
from memjax.evaluation.plots.svg import emit as emit
from memjax.evaluation.plots.svg import markup as markup
from memjax.evaluation.usage_curves import usage as usage
