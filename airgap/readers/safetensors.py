"""The header of a safetensors file: every tensor's type, shape and place, proven to cover the file exactly.

Source: huggingface/safetensors, README.md ("Format") and safetensors/src/tensor.rs (0.8). It lies in the
first bytes, so two range requests read it from a file that nobody has fetched yet:

    prefix = first(PREFIX);  header = parse_header(first(header_end(prefix, size, what)), size, what)

What this reader accepts, upstream accepts with the same meaning. It refuses more, where readers could
differ: a name that occurs twice, keys the format does not have, anything but spaces around the JSON.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from airgap.decode import MAX_INTEGER, Fields, parse_json
from airgap.errors import InputError

PREFIX = 8
"""Bytes of the header's length, an unsigned little-endian integer, at the start of the file."""

MAX_HEADER = 100_000_000
"""Bytes of JSON that upstream reads at most (MAX_HEADER_SIZE)."""

BITS: Mapping[str, int] = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I8", "U8", "BOOL"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
"""Bits of one element of each dtype (tensor.rs, `Dtype::bitsize`). Elements are packed without padding."""

_METADATA = "__metadata__"


@dataclass(frozen=True, slots=True)
class Tensor:
    """`begin` and `end` are byte offsets from the start of the data, the first byte after the header.

    Raises InputError unless `shape` elements of `dtype` fill exactly these bytes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    def __post_init__(self) -> None:
        if problem := _problem(self):
            raise InputError(f"tensor {self.name[:200]!r}: {problem}")

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Header:
    """Tensors in the order of their bytes; `data_begin` is where in the file offset 0 is.

    Raises InputError when two tensors overlap or bytes between them belong to none.
    """

    tensors: tuple[Tensor, ...]
    data_begin: int
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        end = 0
        for tensor in self.tensors:
            if tensor.begin != end:
                what = "overlaps the tensor before it" if tensor.begin < end else "leaves a hole before it"
                raise InputError(
                    f"tensor {tensor.name[:200]!r}: {what}: expected it to begin at byte {end} of the data,"
                    f" found {tensor.begin}"
                )
            end = tensor.end

    @property
    def file_size(self) -> int:
        """Bytes of the whole file: length, header and data."""
        return self.data_begin + (self.tensors[-1].end if self.tensors else 0)


def header_end(prefix: bytes, file_size: int, what: str) -> int:
    """How many bytes from the start of a file of `file_size` bytes hold its whole header.

    `prefix` is its first `PREFIX` bytes or more. Raises InputError for a length that cannot be.
    """
    if len(prefix) < PREFIX:
        raise InputError(f"{what}: expected at least {PREFIX} bytes, found {len(prefix)}")
    length = int.from_bytes(prefix[:PREFIX], "little")
    if length > MAX_HEADER:
        raise InputError(f"{what}: a header of {length} bytes, more than the {MAX_HEADER} allowed")
    if PREFIX + length > file_size:
        raise InputError(
            f"{what}: expected a header of {length} bytes, found a file of {file_size}",
            remedy="fetch the file again: it is cut off, or no safetensors file",
        )
    return PREFIX + length


def parse_header(data: bytes, file_size: int, what: str) -> Header:
    """Read a header; `data` is the first `header_end` bytes of the file or more. Raises InputError."""
    end = header_end(data, file_size, what)
    if len(data) < end:
        raise InputError(f"{what}: expected the first {end} bytes of the file, found {len(data)}")
    text = data[PREFIX:end].rstrip(b" ")
    if not (text.startswith(b"{") and text.endswith(b"}")):
        raise InputError(f"{what}: expected a header from '{{' to '}}', padded with spaces at most")
    fields = Fields(parse_json(text, what, max_bytes=MAX_HEADER))
    names = [name for name in fields.all_keys() if name != _METADATA]
    metadata = _read_metadata(fields.optional_table(_METADATA))
    tensors = [tensor for name in names if (tensor := _read_tensor(name, fields.table(name)))]
    fields.raise_if_bad(what)
    try:
        header = Header(tuple(sorted(tensors, key=lambda t: (t.begin, t.end))), end, metadata)
    except InputError as error:
        raise InputError(f"{what}: {error.message}") from None
    if header.file_size != file_size:
        raise InputError(
            f"{what}: expected a file of {header.file_size} bytes, as its header says; found {file_size}"
            f"{_cut_off(header, file_size)}",
            remedy="fetch the file again: it is cut off, or something was appended",
        )
    return header


def _cut_off(header: Header, file_size: int) -> str:
    """The first tensor that is not all there."""
    first = next((t for t in header.tensors if header.data_begin + t.end > file_size), None)
    return f": tensor {first.name[:200]!r} is cut off" if first else ""


def _read_metadata(fields: Fields | None) -> dict[str, str]:
    return {key: fields.text(key) for key in fields.all_keys()} if fields else {}


def _read_tensor(name: str, fields: Fields) -> Tensor | None:
    before = len(fields.problems)
    dtype = fields.text("dtype")
    shape, offsets = fields.integers("shape"), fields.integers("data_offsets")
    fields.done()
    if len(offsets) != 2:
        fields.problem("data_offsets", f"expected begin and end, found {len(offsets)} integers")
    if len(fields.problems) > before or len(offsets) != 2:
        return None
    try:
        return Tensor(name, dtype, shape, *offsets)
    except InputError as error:
        fields.problem("", error.message.partition(": ")[2])
        return None


def _problem(tensor: Tensor) -> str:
    if tensor.dtype not in BITS:
        return f"expected a dtype of {', '.join(BITS)}; found {tensor.dtype[:40]!r}"
    if not 0 <= tensor.begin <= tensor.end:
        return f"ends at byte {tensor.end} of the data, before it begins at {tensor.begin}"
    elements = 1
    for dimension in tensor.shape:
        elements *= dimension
        if elements > MAX_INTEGER:  # as upstream, in this order; and no product of a million factors
            return "more than 2^63-1 elements"
    bits = elements * BITS[tensor.dtype]
    if bits != 8 * tensor.size:
        shape = "×".join(map(str, tensor.shape[:8])) or "scalar"
        return f"{shape} of {tensor.dtype} has {bits} bits, its place {8 * tensor.size}"
    return ""
