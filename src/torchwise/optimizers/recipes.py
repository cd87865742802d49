"""The optimizers whose state dicts can be read and written."""

from torchwise.optimizers.adagrad import ADAGRAD
from torchwise.optimizers.sgd import SGD

RECIPES = (SGD, ADAGRAD)
