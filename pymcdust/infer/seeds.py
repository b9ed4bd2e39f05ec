"""Directions in which a Hessian is taken: as few as tell all of it."""

import numpy as np

from pymcdust.infer.layout import Slot

# Of a parameter that superpixels share.
_SHARED = -1


class Seeds:
    """Directions whose products with the Hessian of a block hold all of its numbers.

    Given the parameters that they share superpixels are independent. Where the whole sky is one
    block, one direction therefore serves the same parameter of all superpixels at once: there are
    as many directions as one superpixel has parameters of its own, and one for each shared one.
    Where every superpixel is a block, they are the unit vectors.

    Parameters
    ----------
    slots : tuple of Slot
        The layout of a block's vector.

    Attributes
    ----------
    directions : (direction, parameter) array
        Of zeros and ones; each parameter is in one of them.
    """

    def __init__(self, slots: tuple[Slot, ...]) -> None:
        numbers, owners, count = [], [], 0
        for slot in slots:
            size = slot.stop - slot.start
            number, owner = np.arange(size).reshape(slot.shape), np.full(slot.shape, _SHARED)
            # A block that is a superpixel has no axis of them.
            if "superpixel" in slot.dims and len(slot.dims) == len(slot.shape):
                axis = slot.dims.index("superpixel")
                owner = np.indices(slot.shape)[axis]
                size //= slot.shape[axis]
                of_one = np.arange(size).reshape(np.delete(slot.shape, axis))
                number = np.broadcast_to(np.expand_dims(of_one, axis), slot.shape)
            numbers.append(count + number.ravel())
            owners.append(owner.ravel())
            count += size
        self._number, self._owner = np.concatenate(numbers), np.concatenate(owners)
        self.directions = (np.arange(count)[:, np.newaxis] == self._number).astype(float)

    def hessian(self, products: np.ndarray) -> np.ndarray:
        """Write out the Hessian.

        Parameters
        ----------
        products : (block, direction, parameter) array
            Its products with `directions`.

        Returns
        -------
        (block, parameter, parameter) array
        """
        if len(self.directions) == len(self._number):
            return products
        shared = self._owner == _SHARED
        # What others own is not in the row of a parameter, but in its product.
        own = shared[:, np.newaxis] | (self._owner[:, np.newaxis] == self._owner)
        hessian = np.where(own, products[:, self._number], 0.0)
        rows, columns = np.ix_(~shared, shared)
        hessian[:, rows, columns] = hessian[:, columns.T, rows.T].transpose(0, 2, 1)
        return hessian
