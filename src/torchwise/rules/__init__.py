"""torch's optimizers: one per file."""

from torchwise.rules.adadelta import Adadelta
from torchwise.rules.adafactor import Adafactor
from torchwise.rules.adagrad import Adagrad
from torchwise.rules.adam import Adam
from torchwise.rules.adamax import Adamax
from torchwise.rules.adamw import AdamW
from torchwise.rules.asgd import ASGD
from torchwise.rules.muon import Muon
from torchwise.rules.nadam import NAdam
from torchwise.rules.radam import RAdam
from torchwise.rules.rmsprop import RMSprop
from torchwise.rules.rprop import Rprop
from torchwise.rules.sgd import SGD
from torchwise.rules.sparse_adam import SparseAdam

RULES = (
    *(SGD, Adagrad, RMSprop, Adam, AdamW, Adamax, Adadelta),
    *(NAdam, RAdam, ASGD, Rprop, Adafactor, Muon, SparseAdam),
)
