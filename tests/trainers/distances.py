"""How far two runs are apart."""

import numpy as np


def relative(ours, theirs):
    """Norm of the difference of all arrays together, over the norm of theirs; and the worst array.

    Args:
        ours: arrays by name.
        theirs: the same names.

    Returns:
        The distance of all arrays taken as one vector, the largest one of a single array, and the
        name of that array.
    """
    assert ours.keys() == theirs.keys(), sorted(ours.keys() ^ theirs.keys())
    differences, norms = {}, {}
    for name, value in theirs.items():
        value = np.asarray(value, np.float64)
        assert np.isfinite(value).all(), name
        differences[name] = float(np.linalg.norm(np.asarray(ours[name], np.float64) - value))
        norms[name] = float(np.linalg.norm(value))
    ratios = {name: differences[name] / norms[name] for name in norms if norms[name]}
    assert ratios, "nothing to compare"
    assert all(not differences[name] for name in norms if not norms[name])
    worst = max(ratios, key=lambda name: ratios[name])
    total = np.linalg.norm([*differences.values()]) / np.linalg.norm([*norms.values()])
    return float(total), ratios[worst], worst
