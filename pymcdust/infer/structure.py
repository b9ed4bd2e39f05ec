"""Derivatives of the likelihood by its structure: much cheaper than one product per parameter.

The emission of a sightline is linear in the emissivities of its voxels, and each emissivity is a
function of the few parameters of its own voxel. The Hessian of the log likelihood therefore is

    -(Gram matrix of the reddening) times (first derivatives of two emissivities)
    + (second derivatives of one emissivity, weighted by the residuals),

of which the second term couples only parameters of one voxel. These are Eqs. A8-A27 of Zelko et al.
(2022) with the tying of parameters applied; the derivatives of the emissivity are PyTensor's.
"""

from collections.abc import Mapping

import pytensor.tensor as pt
from pytensor.graph.replace import clone_replace
from pytensor.tensor import TensorVariable

from pymcdust.infer.layout import Slot
from pymcdust.modeling.voxel_mbb import VoxelMBB


def likelihood_derivatives(
    model: VoxelMBB,
    slots: tuple[Slot, ...],
    natural: TensorVariable,
    data: Mapping[str, TensorVariable],
) -> tuple[TensorVariable, TensorVariable]:
    """Write gradient and Hessian of the log likelihood by the natural parameters.

    Parameters
    ----------
    model : VoxelMBB
        The model, whose superpixels are independent.
    slots : tuple of Slot
        The layout of the parameters.
    natural : (superpixel, parameter) tensor
        Their natural values.
    data : mapping of tensors
        The rows of data, by name.

    Returns
    -------
    gradient : (superpixel, parameter) tensor
    hessian : (superpixel, parameter, parameter) tensor
    """
    dust = [slot for slot in slots if slot.name in ("temperature", "beta", "rho")]
    rows = _Rows(data, apart=any(map(_by_voxel, dust)))
    value, first, second = _emissivity(model, dust, natural, data["frequency"], rows)
    offset = pt.constant(0.0 if model.offset.free else float(model.offset.prior))
    for slot in slots:
        if slot.name == "offset":
            offset = natural[:, slot.columns][:, :, None]
    residual = rows.along_sightlines(value) + rows.constant * offset - rows.emission
    by_emissivity = -rows.onto_voxels(residual)
    pushed = {name: rows.onto_voxels(rows.along_sightlines(tilt)) for name, tilt in first.items()}

    def slope(slot: Slot) -> TensorVariable:
        if slot in dust:
            by_voxel = (by_emissivity * first[slot.name]).sum(axis=1)
            return by_voxel if _by_voxel(slot) else by_voxel.sum(axis=1, keepdims=True)
        if slot.name == "offset":
            return -(rows.constant * residual).sum(axis=2)
        # Of a hyperparameter the likelihood does not know.
        return pt.zeros_like(natural[:, slot.columns])

    def block(left: Slot, right: Slot) -> TensorVariable:
        if left in dust and right in dust:
            bend = (by_emissivity * second[left.name, right.name]).sum(axis=1)
            if _by_voxel(left) and _by_voxel(right):
                gram = rows.gram(first[left.name], first[right.name])
                return bend[:, :, None] * pt.eye(rows.n_voxel)[None] - gram
            own, other = (left, right) if _by_voxel(left) else (right, left)
            bend = bend - (first[own.name] * pushed[other.name]).sum(axis=1)
            if not _by_voxel(own):
                return bend.sum(axis=1)[:, None, None]
            return bend[:, :, None] if own is left else bend[:, None, :]
        if left.name == right.name == "offset":
            return -(rows.constant**2).sum(axis=2)[:, :, None] * pt.eye(rows.n_band)[None]
        if "offset" in (left.name, right.name) and (left in dust or right in dust):
            grain = left if left in dust else right
            mixed = -first[grain.name] * rows.onto_voxels(rows.constant)
            mixed = mixed if _by_voxel(grain) else mixed.sum(axis=2, keepdims=True)
            return mixed.transpose(0, 2, 1) if grain is left else mixed
        return slope(left)[:, :, None] * slope(right)[:, None, :] * 0.0

    blocks = [[block(left, right) for right in slots] for left in slots]
    hessian = pt.concatenate([pt.concatenate(row, axis=2) for row in blocks], axis=1)
    return pt.concatenate([slope(slot) for slot in slots], axis=1), hessian


class _Rows:
    """The rows of data, and the linear maps between rows and voxels.

    Everything of a band is divided by its sigma, emissivities (superpixel, band, voxel) included.

    Parameters
    ----------
    data : mapping of tensors
        The rows of data.
    apart : bool
        Whether the voxels have parameters of their own. Where they share all, they are one.
    """

    def __init__(self, data: Mapping[str, TensorVariable], apart: bool) -> None:
        reddening = data["reddening"]
        self.reddening = reddening if apart else reddening.sum(axis=-1, keepdims=True)
        self.n_band = data["emission"].type.shape[2]
        self.n_voxel = reddening.type.shape[-1] if apart else 1
        self.shared = reddening.ndim == 3  # by all bands; else (superpixel, band, pixel, voxel)
        self.weight = (1 / data["sigma"])[None, :, None]
        self.emission = data["emission"].transpose(0, 2, 1) * self.weight
        intercept = data["intercept"]
        self.constant = (intercept[:, None] if self.shared else intercept) * self.weight

    def along_sightlines(self, by_voxel: TensorVariable) -> TensorVariable:
        """Sum voxels, (superpixel, band, voxel) to (superpixel, band, row)."""
        if self.shared:
            return pt.matmul(by_voxel, self.reddening.transpose(0, 2, 1))
        return (self.reddening * by_voxel[:, :, None, :]).sum(axis=3)

    def onto_voxels(self, by_row: TensorVariable) -> TensorVariable:
        """Sum rows, (superpixel, band, row) to (superpixel, band, voxel)."""
        if self.shared:
            return pt.matmul(by_row, self.reddening)
        return (self.reddening * by_row[..., None]).sum(axis=2)

    def gram(self, left: TensorVariable, right: TensorVariable) -> TensorVariable:
        """Sum rows and bands of the products of all pairs of voxels."""
        if self.shared:
            products = pt.matmul(self.reddening.transpose(0, 2, 1), self.reddening)
            return products * pt.matmul(left.transpose(0, 2, 1), right)
        products = pt.matmul(self.reddening.transpose(0, 1, 3, 2), self.reddening)
        return (products * left[..., None] * right[:, :, None, :]).sum(axis=1)


def _emissivity(
    model: VoxelMBB,
    dust: list[Slot],
    natural: TensorVariable,
    frequency: TensorVariable,
    rows: _Rows,
) -> tuple[TensorVariable, dict[str, TensorVariable], dict[tuple[str, str], TensorVariable]]:
    """Write the emissivity (superpixel, band, voxel) and its first and second derivatives.

    Each element depends on the parameters at its own place alone: the gradient of the sum of all
    elements holds the derivative of each.
    """
    shape = (None, rows.n_band, rows.n_voxel)
    free = {slot.name: pt.tensor(slot.name, dtype="float64", shape=shape) for slot in dust}
    held = {
        name: float(p.prior)
        for name, p in model.parameters.items()
        if not p.free and name != "offset"
    }
    value = model.emissivity(frequency[None, :, None], **free, **held) * rows.weight
    first = {name: pt.grad(value.sum(), x) for name, x in free.items()}
    second = {
        (left, right): pt.grad(first[left].sum(), x, disconnected_inputs="ignore")
        for left in free
        for right, x in free.items()
    }
    values = {free[slot.name]: natural[:, slot.columns][:, None, :] for slot in dust}
    graphs = clone_replace([value, *first.values(), *second.values()], values, rebuild_strict=False)
    n_first = 1 + len(first)
    return (
        graphs[0],
        dict(zip(first, graphs[1:n_first], strict=True)),
        dict(zip(second, graphs[n_first:], strict=True)),
    )


def _by_voxel(slot: Slot) -> bool:
    return "voxel" in slot.dims
