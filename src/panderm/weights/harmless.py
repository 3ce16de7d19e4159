"""The names a PyTorch file may hold: its tensors' own, and those of plain data that stand beside them.

None of them is ever looked up: the list says which files are what they seem. A file that names anything else
asks to run it.
"""

from __future__ import annotations

import numpy as np
import torch

DTYPES = {f"torch.{name}": dtype for name, dtype in vars(torch).items() if isinstance(dtype, torch.dtype)}
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "QUInt8Storage": torch.quint8,
    "QInt8Storage": torch.qint8,
    "QInt32Storage": torch.qint32,
    "QUInt4x2Storage": torch.quint4x2,
    "QUInt2x4Storage": torch.quint2x4,
}
STORAGE_TYPES: dict[str, torch.dtype] = {
    **{f"{place}.{name}": dtype for place in ("torch", "torch.cuda") for name, dtype in _STORAGES.items()},
    "torch.storage.UntypedStorage": torch.uint8,
}
_NAMES = """
    torch: Tensor Size device strided sparse_coo per_tensor_affine per_tensor_symmetric per_channel_affine
        per_channel_symmetric per_channel_affine_float_qparams
    torch.nn.parameter: Parameter Buffer
    torch._utils: _rebuild_parameter _rebuild_parameter_with_state _rebuild_tensor _rebuild_tensor_v2
        _rebuild_tensor_v3 _rebuild_sparse_tensor _rebuild_qtensor _rebuild_meta_tensor_no_storage
        _rebuild_device_tensor_from_numpy _rebuild_device_tensor_from_cpu_tensor _rebuild_wrapper_subclass
    torch._tensor: _rebuild_from_type_v2
    torch.serialization: _get_layout
    collections: OrderedDict defaultdict Counter deque
    builtins: object int float complex bool str bytes bytearray list tuple dict set frozenset range slice
    argparse: Namespace
    types: SimpleNamespace
    pathlib: Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath
    pathlib._local: Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath
    datetime: date datetime time timedelta timezone
    decimal: Decimal
    fractions: Fraction
    uuid: UUID
    _codecs: encode
    copyreg: _reconstructor
    numpy: dtype ndarray bool bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64
    numpy.core.multiarray: scalar _reconstruct
    numpy._core.multiarray: scalar _reconstruct
    numpy.core.numeric: _frombuffer
    numpy._core.numeric: _frombuffer
"""


def _harmless() -> frozenset[str]:
    """Return the names of plain data, which published files hold beside their tensors."""
    names, module = {*DTYPES, *STORAGE_TYPES}, ""
    names |= {f"numpy.dtypes.{name}" for name in np.dtypes.__all__}
    for word in _NAMES.split():
        if word.endswith(":"):
            module = word[:-1]
        else:
            names.add(f"{module}.{word}")
    return frozenset(names)


HARMLESS = _harmless()
