"""The toy world: synthetic preference data in the formats of the real data sets, whose true reward is known.

`true_reward` is what no real data set has: the reward that the labels were drawn from, computable for any reply.
"""

from hps.toyworld.prompts import STYLES
from hps.toyworld.reward import Attributes, attributes, true_reward
from hps.toyworld.rows import make_rows

__all__ = ["STYLES", "Attributes", "attributes", "make_rows", "true_reward"]
