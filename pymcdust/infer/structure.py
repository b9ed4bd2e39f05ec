"""Derivatives of the likelihood by its structure: much cheaper than one product per parameter.

The emission of a sightline is linear in the emissivities of its voxels, and each emissivity is a
function of the few parameters of its own voxel. The Hessian of the log likelihood is therefore

    -A^T A + (second derivatives of the emissivities, weighted by the residuals),

where A, the whitened Jacobian of the emission, costs no more than the emission itself, and the
second term couples only parameters of one voxel. These are Eqs. A8-A27 of Zelko et al. (2022), with
the tying of parameters applied, and the derivatives of the emissivity left to PyTensor.
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
    by_name = {slot.name: slot for slot in slots}
    dust = [slot for slot in slots if slot.name in ("temperature", "beta", "rho")]
    n_voxel, n_band = data["reddening"].type.shape[-1], data["emission"].type.shape[-1]
    value, first, second = _emissivity(
        model, dust, natural, data["frequency"], (None, n_band, n_voxel)
    )

    reddening, intercept = data["reddening"], data["intercept"]
    weight = (1 / data["sigma"])[None, :, None]
    shared = reddening.ndim == 3  # by all bands
    if shared:
        design, constant = reddening[:, None] * weight[..., None], intercept[:, None] * weight
    else:
        design, constant = reddening * weight[..., None], intercept * weight

    def along_sightline(by_voxel: TensorVariable) -> TensorVariable:
        """Sum (superpixel, band, voxel) to whitened (superpixel, band, row)."""
        if by_voxel.type.shape[-1] == 1:  # one emissivity, where voxels share all parameters
            return design.sum(axis=-1) * by_voxel
        if shared:
            return pt.matmul(by_voxel, reddening.transpose(0, 2, 1)) * weight
        return (design * by_voxel[:, :, None, :]).sum(axis=-1)

    if "offset" in by_name:
        offset = natural[:, by_name["offset"].columns][:, :, None]
    else:
        offset = pt.constant(float(model.offset.prior))
    target = data["emission"].transpose(0, 2, 1) * weight
    residual = along_sightline(value) + constant * offset - target
    if shared:
        by_emissivity = -pt.matmul(residual * weight, reddening)
    else:
        by_emissivity = -(design * residual[..., None]).sum(axis=2)

    jacobian, gradient = [], []
    for slot in slots:
        if slot in dust:
            tilt = first[slot.name]
            rise = (by_emissivity * tilt).sum(axis=1)
            if _by_voxel(slot):
                jacobian.append(design * tilt[:, :, None, :])
                gradient.append(rise)
            else:
                jacobian.append(along_sightline(tilt)[..., None])
                gradient.append(rise.sum(axis=-1, keepdims=True))
        elif slot.name == "offset":
            jacobian.append(constant[..., None] * pt.eye(n_band)[None, :, None, :])
            gradient.append(-(constant * residual).sum(axis=2))
        else:
            # Of a hyperparameter the likelihood does not know.
            nothing = pt.zeros_like(natural[:, slot.columns])
            jacobian.append(constant[..., None] * nothing[:, None, None, :])
            gradient.append(nothing)
    n_row = n_band * data["emission"].type.shape[1]
    jacobian = pt.concatenate(jacobian, axis=-1)
    jacobian = jacobian.reshape((jacobian.shape[0], n_row, slots[-1].stop))
    hessian = -pt.matmul(jacobian.transpose(0, 2, 1), jacobian)
    for left in dust:
        for right in dust:
            bend = (by_emissivity * second[left.name, right.name]).sum(axis=1)
            place = (slice(None), left.columns, right.columns)
            hessian = pt.inc_subtensor(hessian[place], _tied(bend, left, right))
    return pt.concatenate(gradient, axis=1), hessian


def _emissivity(
    model: VoxelMBB,
    dust: list[Slot],
    natural: TensorVariable,
    frequency: TensorVariable,
    shape: tuple[int | None, int, int],
) -> tuple[TensorVariable, dict[str, TensorVariable], dict[tuple[str, str], TensorVariable]]:
    """Write the emissivity (superpixel, band, voxel) and its first and second derivatives.

    Each element depends on the parameters at its own place alone: the gradient of the sum of all
    elements holds the derivative of each.
    """
    free = {slot.name: pt.tensor(slot.name, dtype="float64", shape=shape) for slot in dust}
    held = {
        name: float(p.prior)
        for name, p in model.parameters.items()
        if not p.free and name != "offset"
    }
    value = model.emissivity(frequency[None, :, None], **free, **held)
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


def _tied(bend: TensorVariable, left: Slot, right: Slot) -> TensorVariable:
    """Write the block of a Hessian that couples two parameters voxel by voxel.

    Parameters
    ----------
    bend : (superpixel, voxel) tensor
        Second derivative by the two parameters, for each voxel.
    left, right : Slot
        The parameters, which the voxels may share.
    """
    if _by_voxel(left) and _by_voxel(right):
        return bend[:, :, None] * pt.eye(bend.shape[1])[None]
    if _by_voxel(left):
        return bend[:, :, None]
    if _by_voxel(right):
        return bend[:, None, :]
    return bend.sum(axis=1)[:, None, None]
