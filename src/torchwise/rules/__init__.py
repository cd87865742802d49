"""torch's optimizers: one per file."""

from torchwise.rules.adagrad import Adagrad
from torchwise.rules.rmsprop import RMSprop
from torchwise.rules.sgd import SGD

RULES = (SGD, Adagrad, RMSprop)
