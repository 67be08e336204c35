"""A GPU that is none: tensors that say they are on `cuda:0`, hold their numbers on the CPU, and refuse to be mixed with others.

Within `pretended_gpu()` torch finds one GPU. What is moved to it is wrapped; each operation on what is wrapped runs on
the numbers inside, so that results are those of the CPU. What a real GPU refuses is refused: an operation that mixes devices,
numpy's view of a tensor on the GPU, a tensor that another stream copies and that is used before it has been waited for.
What makes the host wait for a GPU is counted: a copy to or from it that is not
`non_blocking`, a number that is read, an operation whose size depends on data.
"""

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

GPU = torch.device("cuda", 0)
GENERATOR = torch.Generator
TO = torch.Tensor.to
aten = torch.ops.aten
DATA_DECIDES_SIZE = {
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.bincount.default,
    aten.equal.default,
}
IN_FULL = {
    "exp",
    "log",
    "pow",
    "softmax",
    "log_softmax",
    "prod",
    "cumsum",
    "layer_norm",
    "nll_loss",
}
"""Functions that autocast runs in full precision on CUDA, not all of them on the CPU (torch's "Autocast Op Reference")."""
INDEXING = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
    aten._unsafe_index.Tensor,
}


@dataclass
class Seen:
    """What happened on the pretended GPU: what the host waited for and where, and each kernel's types.

    waits: what, with the place in segstudy -> how often. dtypes: operation -> the types of its tensors. layouts: of
    the features that convolutions are given, `channels last` or `other` -> how often.
    """

    waits: Counter[str] = field(default_factory=Counter)
    dtypes: dict[str, set[torch.dtype]] = field(default_factory=dict)
    kernels: int = 0
    layouts: Counter[str] = field(default_factory=Counter)

    def wait(self, what: str) -> None:
        self.waits[f"{what} at {_place()}"] += 1


_now: list[Seen] = []


class Stream:
    """A stream of work: what is copied on it may be used elsewhere once its event has been waited for."""

    copies = waited_for = 0

    def __init__(self, device=None):
        pass

    def record_event(self):
        return self, self.copies

    def wait_event(self, event):
        stream, copies = event
        stream.waited_for = max(stream.waited_for, copies)


TRAINING = Stream()
_streams = threading.local()


@contextmanager
def _on(stream: Stream) -> Iterator[None]:
    """Have this thread copy on a stream."""
    _streams.current = stream
    try:
        yield
    finally:
        del _streams.current


def _current(*_) -> Stream:
    return getattr(_streams, "current", TRAINING)


def _place() -> str:
    """Return the nearest line of segstudy that is running."""
    frame = sys._getframe(1)
    while frame:
        _, inside, file = frame.f_code.co_filename.rpartition("/segstudy/")
        if inside:
            return f"{file}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


def _no_numpy(*_, **__):
    raise TypeError("can't convert cuda:0 device type tensor to numpy")


class OnGpu(torch.Tensor):
    """A tensor of the pretended GPU; `inner` has its numbers."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor):
        outer = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            dtype=inner.dtype,
            layout=inner.layout,
            device="cpu",
            requires_grad=inner.requires_grad,
        )
        outer.inner = inner
        outer.stream = _current()
        outer.stream.copies += outer.stream is not TRAINING
        outer.copy = outer.stream.copies
        return outer

    device = property(lambda self: GPU)
    is_cpu = property(lambda self: False)
    is_cuda = property(lambda self: True)
    numpy = __array__ = _no_numpy
    __torch_function__ = torch._C._disabled_torch_function_impl

    def __init__(self, inner):
        pass

    def __repr__(self):
        return f"OnGpu{tuple(self.shape)}"

    def __deepcopy__(self, memo):
        copy = OnGpu(self.inner.detach().clone())
        if isinstance(self, torch.nn.Parameter):
            copy = torch.nn.Parameter(copy, self.requires_grad)
        memo[id(self)] = copy
        return copy

    def cpu(self, *_, **__):
        return self.to("cpu")

    def record_stream(self, stream):
        """Say that a stream uses this tensor's memory."""
        assert stream is TRAINING

    def tolist(self):
        _now[-1].wait("tolist")
        return self.inner.tolist()

    def to(self, *args, **kwargs):
        copy = kwargs.pop("copy", False)
        device, dtype, _, layout = torch._C._nn._parse_to(*args, **kwargs)
        layout = {} if layout is None else {"memory_format": layout}
        if device is not None and device.type == "cpu":
            _now[-1].wait("copy to the CPU")
            return self.inner.detach().to(dtype=dtype or self.dtype, copy=True, **layout)
        if dtype is None and not layout and not copy:
            return self
        return TO(self, dtype=dtype or self.dtype, copy=copy, **layout)

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})


def _inner(value):
    return value.inner if isinstance(value, OnGpu) else value


def _run(function, args, kwargs):
    """Run an operation on the numbers inside, as a GPU would or would not."""
    tensors = [value for value in tree_iter((args, kwargs)) if isinstance(value, torch.Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, OnGpu)]
    target = kwargs.get("device")
    to_gpu = target is not None and torch.device(target).type == "cuda"
    if not there and not to_gpu:
        return function(*args, **kwargs)
    seen = _now[-1]
    for tensor in there:
        if tensor.stream is not _current() and tensor.copy > tensor.stream.waited_for:
            raise RuntimeError(
                f"{function} of a tensor whose copy has not been waited for, at {_place()}"
            )
    if function is aten._to_copy.default:
        return _copied(args[0], kwargs)
    if function is aten.copy_.default:
        onto, source = args[:2]
        if isinstance(onto, OnGpu) != isinstance(source, OnGpu):
            waits = not kwargs.get("non_blocking", len(args) > 2 and args[2])
            if waits or isinstance(source, OnGpu):
                seen.wait("copy between devices")
        function(_inner(onto), _inner(source), *args[2:])
        return onto
    if function is aten._local_scalar_dense.default:
        seen.wait("a number is read")
        return function(_inner(args[0]))
    _refuse_mixture(function, tensors)
    indices = list(tree_iter(args[1])) if function in INDEXING else []
    if function in DATA_DECIDES_SIZE or any(
        isinstance(index, OnGpu) and index.dtype == torch.bool for index in indices
    ):
        seen.wait(f"{function}: data decide its size")
    if function is aten.convolution.default:
        seen.layouts[_layout(args[0].inner)] += 1
    if function is aten.convolution_backward.default:
        seen.layouts[f"{_layout(args[1].inner)} in the backward pass"] += 1
    seen.kernels += 1
    seen.dtypes.setdefault(str(function), set()).update(tensor.dtype for tensor in tensors)
    kwargs = {key: value for key, value in kwargs.items() if key != "pin_memory"}
    if to_gpu:
        kwargs["device"] = "cpu"
    results = function(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    # An operation in place gives back what it was given.
    given = {id(tensor.inner): tensor for tensor in there}

    def outer(value):
        if not isinstance(value, torch.Tensor) or isinstance(value, OnGpu):
            return value
        return given.get(id(value)) if id(value) in given else OnGpu(value)

    return tree_map(outer, results)


def _layout(features) -> str:
    """Tell the layout of features (batch, channel, *size) in memory; one channel or one voxel is both."""
    last = torch.channels_last_3d if features.dim() == 5 else torch.channels_last
    return "channels last" if features.is_contiguous(memory_format=last) else "other"


def _copied(source, kwargs):
    """Convert a tensor. What leaves the GPU comes through `OnGpu.to`; autograd names the device that C++ sees, the CPU."""
    wanted = {**kwargs, "device": "cpu"} if kwargs.get("device") is not None else kwargs
    copy = aten._to_copy.default(_inner(source), **wanted)
    if not isinstance(source, OnGpu) and not kwargs.get("non_blocking"):
        _now[-1].wait("copy to the GPU")
    return OnGpu(copy.clone() if copy is source else copy)


def _refuse_mixture(function, tensors) -> None:
    """Refuse a tensor of the CPU beside one of the GPU, but for single numbers and for indices, which are copied."""
    there = any(isinstance(tensor, OnGpu) for tensor in tensors)
    others = [tensor for tensor in tensors if not isinstance(tensor, OnGpu) and tensor.dim()]
    if not there or not others:
        return
    if function in INDEXING:
        _now[-1].wait(f"{function}: an index on the CPU")
        return
    raise RuntimeError(
        f"Expected all tensors to be on the same device: {function} of "
        f"{[tuple(other.shape) for other in others]} on the CPU, at {_place()}"
    )


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})


def _to(tensor, *args, **kwargs):
    """Move a tensor of the CPU; torch without CUDA would look for the GPU itself, where its number is left open."""
    if isinstance(tensor, OnGpu):
        return tensor.to(*args, **kwargs)
    device, dtype, non_blocking, _ = torch._C._nn._parse_to(
        *args, **{key: value for key, value in kwargs.items() if key != "copy"}
    )
    if device is None or device.type != "cuda":
        return TO(tensor, *args, **kwargs)
    if not non_blocking:
        _now[-1].wait("copy to the GPU")
    return OnGpu(TO(tensor.detach(), dtype or tensor.dtype, copy=True))


def _clip(parameters, most):
    """Clip gradients as torch does, which sorts them by the device that C++ sees: the CPU, here."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients])
    norm = torch.linalg.vector_norm(norms)
    for gradient in gradients:
        gradient.mul_((most / (norm + 1e-6)).clamp(max=1.0))
    return norm


class _Generator:
    """A generator on the CPU, whatever device is named; a class, since annotations name it."""

    def __new__(cls, device="cpu"):
        return GENERATOR()


class CudaAutocast(TorchFunctionMode):
    """Run in full precision what CUDA's autocast does and the CPU's does not."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if torch.is_autocast_enabled("cpu") and function.__name__ in IN_FULL:
            args, kwargs = tree_map(_in_full, (args, kwargs))
        return function(*args, **kwargs)


def _in_full(value):
    half = isinstance(value, torch.Tensor) and value.dtype in (torch.float16, torch.bfloat16)
    return value.float() if half else value


class _Autocast(torch.autocast):
    """Autocast of the pretended GPU is the CPU's, which the numbers inside follow, but for `IN_FULL`."""

    def __init__(self, device_type, dtype=None, enabled=True, cache_enabled=None):
        super().__init__("cpu", dtype=dtype, enabled=enabled, cache_enabled=cache_enabled)


@contextmanager
def pretended_gpu(bfloat16: bool = True, ranks: int = 1) -> Iterator[Seen]:
    """Make torch find a GPU of 80 GiB, or one for each rank; yields what is seen of it.

    bfloat16: whether the GPU computes in it, as those since Ampere do. ranks: sums over them are made on the numbers inside.
    """
    seen, tensor, all_reduce = Seen(), torch.tensor, torch.distributed.all_reduce

    def made(data, *args, device=None, **kwargs):
        inner = tensor(data, *args, **kwargs)
        if device is None or torch.device(device).type != "cuda":
            return inner
        seen.wait("torch.tensor")
        return OnGpu(inner)

    properties = SimpleNamespace(total_memory=80 * 2**30, name="pretended", major=8, minor=0)
    stand_ins = [
        (torch, "tensor", made),
        (torch, "autocast", _Autocast),
        (torch, "Generator", _Generator),
        (torch.Tensor, "to", _to),
        (torch.nn.utils, "clip_grad_norm_", _clip),
        (torch.Tensor, "pin_memory", lambda tensor, *_: tensor.clone()),
        *(
            (torch.cuda, name, lambda *_, value=value, **__: value)
            for name, value in {
                "is_available": True,
                "_lazy_init": None,
                "is_initialized": True,
                "current_device": 0,
                "device_count": ranks,
                "set_device": None,
                "is_bf16_supported": bfloat16,
                "mem_get_info": (80 * 2**30, 80 * 2**30),
                "memory_reserved": 0,
                "memory_allocated": 0,
                "max_memory_allocated": 0,
                "reset_peak_memory_stats": None,
                "get_device_name": "pretended",
                "get_device_properties": properties,
                "manual_seed": None,
                "manual_seed_all": None,
                "empty_cache": None,
                "synchronize": None,
            }.items()
        ),
        (torch.distributed, "all_reduce", lambda values: all_reduce(_inner(values))),
        (torch.cuda, "Stream", Stream),
        (torch.cuda, "stream", _on),
        (torch.cuda, "current_stream", _current),
    ]
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    with ExitStack() as stack:
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrite)
        for where, name, value in stand_ins:
            stack.enter_context(mock.patch.object(where, name, value))
        _now.append(seen)
        stack.callback(_now.pop)
        stack.enter_context(CudaAutocast())
        stack.enter_context(_Mode())
        yield seen
