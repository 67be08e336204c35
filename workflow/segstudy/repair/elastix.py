"""Estimating how a structure was moved with Elastix (Klein et al. 2010), through itk-elastix.

Elastix is the usual tool for the task, and is measured here beside the sweep. The right label
(moving image) is registered onto the wrong one (fixed image), so that the transform, which maps
fixed to moving points, is the corruption itself: output to input.
"""

import time
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from segstudy.boxes import bounding_box
from segstudy.images.rigid import translation
from segstudy.study import Elastix

#: Signed distances are cut here (mm, or voxels in frame `voxel`): voxels far from the surface have no say.
FAR = 20.0
SEED = 2026


@dataclass(frozen=True)
class Registration:
    """Hold one attempt: the image of the masks that was registered, and the transform.

    Parameters
    ----------
    image
        `masks` or `distances`.
    transform
        `rigid` or `affine`.
    matrix
        4x4 corruption on voxel indices, output to input; None where the registration failed.
    reason
        Why it failed.
    seconds
        Includes those of the transform that the attempt started from.
    """

    image: str
    transform: str
    matrix: np.ndarray | None
    reason: str = ""
    seconds: float = 0.0


def register(
    right: np.ndarray,
    wrong: np.ndarray,
    spacing_mm: tuple[float, float, float],
    settings: Elastix,
) -> list[Registration]:
    """Register the right mask onto the wrong one, with every image and transform of the settings.

    Each transform starts from the one before, the first from the centres of gravity. A
    registration that fails is returned with its reason.

    Parameters
    ----------
    right, wrong
        bool (i, j, k) on the same grid, neither empty.
    spacing_mm
        Voxel sizes in which a rigid transform is rigid; (1, 1, 1) where voxel indices were rotated.
    settings
        Images, transforms, resolutions and iterations.

    References
    ----------
    Klein et al. 2010, doi:10.1109/TMI.2009.2035616
    """
    import itk

    # One thread: more would add in another order, and the same study would give other digits.
    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(1)
    start, fixed, moving = _common_crop(wrong, right)
    registrations = []
    for kind in settings.images:
        began = time.perf_counter()
        images = [
            itk_image(_picture(mask, kind, spacing_mm), spacing_mm) for mask in (fixed, moving)
        ]
        before = None
        for transform in settings.transforms:
            try:
                before = _run(*images, transform, before, settings)
                in_mm = _matrix(before)
                in_voxels = _to_voxels(in_mm, spacing_mm, start)
                registrations.append(
                    Registration(kind, transform, in_voxels, "", time.perf_counter() - began)
                )
            except (RuntimeError, ValueError, np.linalg.LinAlgError) as error:
                before = None
                seconds = time.perf_counter() - began
                registrations.append(Registration(kind, transform, None, _reason(error), seconds))
    return registrations


def itk_image(array: np.ndarray, spacing_mm: tuple[float, float, float]):
    """Make an ITK image with axes (i, j, k) and its origin at voxel 0.

    ITK takes an array's axes in the opposite order, hence the transposition.
    """
    import itk

    image = itk.image_from_array(np.ascontiguousarray(array.T, dtype=np.float32))
    image.SetSpacing([float(size) for size in spacing_mm])
    return image


def _common_crop(*masks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the start of the box around both masks with room to move, and the masks within the box."""
    boxes = np.array([bounding_box(mask) for mask in masks])
    low, high = boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)
    margin = np.maximum(4, (high - low) // 8)
    low, high = low - margin, high + margin
    inner_low = np.maximum(low, 0)
    inner_high = np.minimum(high, masks[0].shape)
    room = list(zip(inner_low - low, high - inner_high, strict=True))
    crop = tuple(slice(a, b) for a, b in zip(inner_low, inner_high, strict=True))
    return low, *[np.pad(mask[crop], room) for mask in masks]


def _picture(mask: np.ndarray, kind: str, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Return the image to register: the mask (0 and 100), or signed distances, inside positive."""
    if kind == "masks":
        return mask * np.float32(100)
    inside = ndimage.distance_transform_edt(mask, sampling=spacing_mm)
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing_mm)
    return np.clip(inside - outside, -FAR, FAR)


def _run(fixed, moving, transform: str, before, settings: Elastix):
    import itk

    parameters = itk.ParameterObject.New()
    parameters.AddParameterMap(_parameters(transform, settings, first=before is None))
    method = itk.ElastixRegistrationMethod.New(fixed, moving)
    method.SetParameterObject(parameters)
    method.SetNumberOfThreads(1)
    method.LogToConsoleOff()
    if before is not None:
        method.SetExternalInitialTransform(before)
    method.UpdateLargestPossibleRegion()
    return method.GetCombinationTransform()


def _parameters(transform: str, settings: Elastix, first: bool) -> dict[str, list[str]]:
    """Elastix parameters: mean squares, adaptive stochastic gradient descent, all as text."""
    values = {
        "Transform": {"rigid": "EulerTransform", "affine": "AffineTransform"}[transform],
        "Registration": "MultiResolutionRegistration",
        "Metric": "AdvancedMeanSquares",
        "Optimizer": "AdaptiveStochasticGradientDescent",
        "ImageSampler": "RandomCoordinate",
        "Interpolator": "LinearInterpolator",
        "ResampleInterpolator": "FinalNearestNeighborInterpolator",
        "Resampler": "DefaultResampler",
        "FixedImagePyramid": "FixedSmoothingImagePyramid",
        "MovingImagePyramid": "MovingSmoothingImagePyramid",
        "NumberOfResolutions": settings.resolutions,
        "MaximumNumberOfIterations": settings.iterations,
        "NumberOfSpatialSamples": 2048,
        "NewSamplesEveryIteration": "true",
        "AutomaticScalesEstimation": "true",
        "AutomaticParameterEstimation": "true",
        "AutomaticTransformInitialization": "true" if first else "false",
        "AutomaticTransformInitializationMethod": "CenterOfGravity",
        "HowToCombineTransforms": "Compose",
        "RequiredRatioOfValidSamples": 0.05,
        "RandomSeed": SEED,
        "WriteResultImage": "false",
    }
    return {name: [str(value)] for name, value in values.items()}


def _matrix(transform) -> np.ndarray:
    """4x4 matrix of a linear transform, from where it sends four points."""
    origin = np.array(transform.TransformPoint([0.0, 0.0, 0.0]))
    matrix = np.eye(4)
    matrix[:3, 3] = origin
    for axis in range(3):
        # A long lever: the points come back as doubles, but the rotation's error shrinks with it.
        point = [1000.0 * (other == axis) for other in range(3)]
        matrix[:3, axis] = (np.array(transform.TransformPoint(point)) - origin) / 1000.0
    if not np.isfinite(matrix).all():
        raise ValueError("the transform is not finite")
    return matrix


def _to_voxels(
    in_mm: np.ndarray, spacing_mm: tuple[float, float, float], start: np.ndarray
) -> np.ndarray:
    """From millimetres in the crop to voxel indices of the grid."""
    scale = np.diag([*spacing_mm, 1.0])
    in_crop = np.linalg.inv(scale) @ in_mm @ scale
    return translation(start) @ in_crop @ translation(-start)


def _reason(error: Exception) -> str:
    """Last line of an ITK message that says something, without addresses in memory."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = next((line for line in reversed(lines) if "rror" in line or ":" in line), "")
    return (text or type(error).__name__).split("): ")[-1][:200]
