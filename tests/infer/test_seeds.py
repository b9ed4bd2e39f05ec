import numpy as np
import pytest

from pymcdust.infer.layout import Slot
from pymcdust.infer.seeds import Seeds


def slots_of(*variables):
    """Lay out variables, each its dimensions and its shape."""
    slots, start = [], 0
    for number, (dims, shape) in enumerate(variables):
        stop = start + int(np.prod(shape))
        slots.append(Slot(f"x{number}", dims, shape, start, stop, -np.inf, np.inf))
        start = stop
    return tuple(slots)


#: Layouts of one block for the sky, and the number of directions that they need.
SKIES = [
    (((("superpixel", "voxel"), (4, 3)), (("superpixel",), (4,)), (("band",), (5,))), 3 + 1 + 5),
    ((((), ()), (("voxel", "superpixel"), (2, 7)), (("band", "superpixel"), (5, 7))), 1 + 2 + 5),
    (((("voxel",), (3,)), ((), ())), 4),
    (((("superpixel", "voxel"), (1, 3)), ((), ())), 4),
]


@pytest.mark.parametrize(("variables", "n_direction"), SKIES)
def test_a_hessian_of_independent_superpixels_is_known_whole(variables, n_direction):
    slots = slots_of(*variables)
    rng = np.random.default_rng(0)
    owner = np.concatenate(
        [
            np.indices(shape)[dims.index("superpixel")].ravel()
            if "superpixel" in dims
            else np.full(int(np.prod(shape)), -1)
            for dims, shape in variables
        ]
    )
    hessian = rng.normal(size=(2, len(owner), len(owner)))
    hessian = hessian + hessian.transpose(0, 2, 1)
    apart = (owner[:, None] != owner) & (owner[:, None] >= 0) & (owner >= 0)
    hessian[:, apart] = 0.0
    seeds = Seeds(slots)
    assert len(seeds.directions) == n_direction
    np.testing.assert_array_equal(seeds.directions.sum(axis=0), 1.0)
    products = np.einsum("dp,bpq->bdq", seeds.directions, hessian)
    np.testing.assert_allclose(seeds.hessian(products), hessian, rtol=0, atol=1e-12)


def test_a_block_that_is_a_superpixel_has_unit_vectors():
    seeds = Seeds(slots_of((("superpixel", "voxel"), (3,)), (("superpixel",), ())))
    np.testing.assert_array_equal(seeds.directions, np.eye(4))
    products = np.arange(32.0).reshape(2, 4, 4)
    assert seeds.hessian(products) is products
