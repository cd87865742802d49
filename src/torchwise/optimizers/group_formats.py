"""The optimizers whose state dicts can be read and written."""

from torchwise.optimizers.adagrad import ADAGRAD_GROUP
from torchwise.optimizers.sgd import SGD_GROUP

GROUP_FORMATS = (SGD_GROUP, ADAGRAD_GROUP)
