"""Vector instructions for compiled kernels: small matrix products and the line transforms of fast convolution.

Numba compiles loops, but leaves it to chance whether sums stay in registers. These pieces are written in LLVM's vector
types, so that they do: a tile of a matrix product, and the transforms of Winograd's F(4, 3) and of short Toeplitz
products (Lavin and Gray, CVPR 2016; Winograd 1980). Addresses are plain integers, lengths count floats. All vectors are
16 floats: one register with AVX-512, two or four elsewhere, with the same numbers.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
F32 = ir.FloatType()
VECTOR = ir.VectorType(F32, LANES)
I32 = ir.IntType(32)
I64 = ir.IntType(64)
Builder = Any
Value = Any


def _pointer(builder: Builder, base: Value, offset: Value, kind: Any) -> Value:
    """Pointer to `kind` at `base` + 4 `offset` bytes."""
    address = builder.add(base, builder.shl(offset, ir.Constant(I64, 2)))
    return builder.inttoptr(address, kind.as_pointer())


def load(builder: Builder, base: Value, offset: Value) -> Value:
    """Vector at `base` + 4 `offset` bytes."""
    return builder.load(_pointer(builder, base, offset, VECTOR), align=4)


def store(builder: Builder, value: Value, base: Value, offset: Value) -> None:
    """Store a vector at `base` + 4 `offset` bytes."""
    builder.store(value, _pointer(builder, base, offset, VECTOR), align=4)


def splat(builder: Builder, scalar: Value) -> Value:
    """Vector of one value."""
    undefined = ir.Constant(VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, LANES), [0] * LANES))


def number(value: float) -> Value:
    """Vector of one constant."""
    return ir.Constant(VECTOR, [value] * LANES)


def multiply_add(builder: Builder, a: Value, b: Value, c: Value) -> Value:
    """A b + c, rounded once."""
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32")
    return builder.call(function, [a, b, c])


def times(builder: Builder, value: Value, index: int) -> Value:
    """Integer product with a constant."""
    return builder.mul(value, ir.Constant(I64, index))


def make_tile(rows: int, vectors: int) -> Any:
    """Return the compiled tile of a matrix product C = A B: `rows` rows and 16 `vectors` columns.

    The function takes (a, b, c, depth, row_a, row_b, row_c): addresses, the inner length, and floats between rows.
    """

    @intrinsic
    def tile(typing: Any, a: Any, b: Any, c: Any, depth: Any, row_a: Any, row_b: Any, row_c: Any) -> Any:
        def generate(context: Any, builder: Builder, signature: Any, arguments: Any) -> Value:
            a, b, c, depth, row_a, row_b, row_c = arguments
            sums = [[cgutils.alloca_once(builder, VECTOR) for _ in range(vectors)] for _ in range(rows)]
            for row in sums:
                for place in row:
                    builder.store(number(0.0), place)
            starts = [times(builder, row_a, r) for r in range(rows)]
            with cgutils.for_range(builder, depth) as loop:
                begin = builder.mul(loop.index, row_b)
                right = [load(builder, b, builder.add(begin, ir.Constant(I64, LANES * j))) for j in range(vectors)]
                for r in range(rows):
                    scalar = builder.load(_pointer(builder, a, builder.add(starts[r], loop.index), F32), align=4)
                    left = splat(builder, scalar)
                    for j in range(vectors):
                        builder.store(multiply_add(builder, left, right[j], builder.load(sums[r][j])), sums[r][j])
            for r in range(rows):
                begin = times(builder, row_c, r)
                for j in range(vectors):
                    offset = builder.add(begin, ir.Constant(I64, LANES * j))
                    store(builder, builder.load(sums[r][j]), c, offset)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), generate

    return tile


Rule = Callable[[Builder, Sequence[Value]], list[Value]]
"""Takes the vectors of a line, gives those of its transform; None stands for a zero beyond the border."""


def make_line(count: int, rule: Rule, blocks: int) -> Any:
    """Return a compiled transform of lines of `count` vectors.

    The function takes (source, step, target, step): addresses, and floats from one element of the line to the next; an
    element has 16 `blocks` floats. Source and target may be the same if the steps are.
    """

    @intrinsic
    def line(typing: Any, source: Any, step_in: Any, target: Any, step_out: Any) -> Any:
        def generate(context: Any, builder: Builder, signature: Any, arguments: Any) -> Value:
            source, step_in, target, step_out = arguments
            ins = [times(builder, step_in, k) for k in range(count)]
            outs: list[Value] = []

            def one(shift: Value) -> None:
                given = [load(builder, source, builder.add(place, shift)) for place in ins]
                found = rule(builder, given)
                outs.extend(times(builder, step_out, k) for k in range(len(outs), len(found)))
                for place, value in zip(outs, found, strict=True):
                    store(builder, value, target, builder.add(place, shift))

            for lane in range(0, blocks * LANES, LANES):
                one(ir.Constant(I64, lane))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), generate

    return line


def _fma(builder: Builder, factor: float, value: Value, addend: Value) -> Value:
    """Factor * value + addend; a value None is zero."""
    if value is None:
        return addend
    if addend is None:
        return builder.fmul(number(factor), value)
    return multiply_add(builder, number(factor), value, addend)


def _plus(builder: Builder, a: Value, b: Value) -> Value:
    if a is None or b is None:
        return a if b is None else b
    return builder.fadd(a, b)


def _minus(builder: Builder, a: Value, b: Value) -> Value:
    if b is None:
        return a
    return builder.fneg(b) if a is None else builder.fsub(a, b)


def six_of(before: bool, after: bool) -> tuple[int, Rule]:
    """F(4, 3), input: six values to six. `before`, `after`: whether the first and the last lie in the volume."""

    def rule(builder: Builder, given: Sequence[Value]) -> list[Value]:
        values = [*([] if before else [None]), *given, *([] if after else [None])]
        d0, d1, d2, d3, d4, d5 = values
        t1, t2 = _fma(builder, -4.0, d2, d4), _fma(builder, -4.0, d1, d3)
        t3 = _minus(builder, d4, d2)
        t4 = builder.fmul(number(2.0), _minus(builder, d3, d1))
        return [
            _fma(builder, 4.0, d0, _fma(builder, -5.0, d2, d4)),
            builder.fadd(t1, t2),
            builder.fsub(t1, t2),
            builder.fadd(t3, t4),
            builder.fsub(t3, t4),
            _plus(builder, _fma(builder, 4.0, d1, builder.fmul(number(-5.0), d3)), d5),
        ]

    return 4 + before + after, rule


def four_of(builder: Builder, given: Sequence[Value]) -> list[Value]:
    """F(4, 3), output: six values to four."""
    m0, m1, m2, m3, m4, m5 = given
    s1, s2, s3, s4 = builder.fadd(m1, m2), builder.fsub(m1, m2), builder.fadd(m3, m4), builder.fsub(m3, m4)
    return [
        builder.fadd(builder.fadd(m0, s1), s3),
        _fma(builder, 2.0, s4, s2),
        _fma(builder, 4.0, s3, s1),
        builder.fadd(_fma(builder, 8.0, s4, s2), m5),
    ]


def three_of(builder: Builder, given: Sequence[Value]) -> list[Value]:
    """Two values between two zeros, input of the Toeplitz product: to three."""
    return [builder.fadd(given[0], given[1]), given[1], given[0]]


def two_of(builder: Builder, given: Sequence[Value]) -> list[Value]:
    """The same, output: three values to two."""
    return [builder.fadd(given[0], given[1]), builder.fadd(given[0], given[2])]


tile_8x2 = make_tile(8, 2)
tile_8x1 = make_tile(8, 1)


def make_finish(*, relu: bool, before: bool, after: bool) -> Any:
    """Return the compiled end of a layer: target = f(source + bias [+ before]) [+ after], f a ReLU or nothing.

    The function takes (source, bias, before, after, target, channels): addresses and the number of floats, a multiple
    of 16. Addresses that are not used are ignored.
    """

    @intrinsic
    def finish(typing: Any, source: Any, bias: Any, first: Any, last: Any, target: Any, channels: Any) -> Any:
        def generate(context: Any, builder: Builder, signature: Any, arguments: Any) -> Value:
            source, bias, first, last, target, channels = arguments
            with cgutils.for_range(builder, builder.lshr(channels, ir.Constant(I64, 4))) as loop:
                shift = builder.shl(loop.index, ir.Constant(I64, 4))
                value = builder.fadd(load(builder, source, shift), load(builder, bias, shift))
                if before:
                    value = builder.fadd(value, load(builder, first, shift))
                if relu:
                    value = builder.select(builder.fcmp_ordered(">", value, number(0.0)), value, number(0.0))
                if after:
                    value = builder.fadd(value, load(builder, last, shift))
                store(builder, value, target, shift)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), generate

    return finish


@intrinsic
def pool(typing: Any, source: Any, step_x: Any, step_y: Any, step_z: Any, target: Any, channels: Any) -> Any:
    """Compiled largest of 2 x 2 x 2 elements; addresses, floats between neighbours, floats of an element."""

    def generate(context: Any, builder: Builder, signature: Any, arguments: Any) -> Value:
        source, step_x, step_y, step_z, target, channels = arguments
        with cgutils.for_range(builder, builder.lshr(channels, ir.Constant(I64, 4))) as loop:
            shift = builder.shl(loop.index, ir.Constant(I64, 4))
            best = load(builder, source, shift)
            for corner in range(1, 8):
                offset = shift
                for bit, step in enumerate((step_x, step_y, step_z)):
                    if corner >> bit & 1:
                        offset = builder.add(offset, step)
                value = load(builder, source, offset)
                best = builder.select(builder.fcmp_ordered(">", value, best), value, best)
            store(builder, best, target, shift)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate


finish_plain = make_finish(relu=False, before=False, after=False)
finish_relu = make_finish(relu=True, before=False, after=False)
finish_sum = make_finish(relu=True, before=True, after=False)
finish_sum_skip = make_finish(relu=True, before=True, after=True)
finish_skip = make_finish(relu=True, before=False, after=True)

into_six_low = {n: make_line(*six_of(False, True), n) for n in (1, 2)}
into_six_high = {n: make_line(*six_of(True, False), n) for n in (1, 2)}
into_six_alone = {n: make_line(*six_of(False, False), n) for n in (1, 2)}
into_four = {n: make_line(6, four_of, n) for n in (1, 2)}
into_three = {n: make_line(2, three_of, n) for n in (1, 2)}
into_two = {n: make_line(3, two_of, n) for n in (1, 2)}
