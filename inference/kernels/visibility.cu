// Which vertices each view sees, and vertex normals. The rules are those of inference/tempeh/published/visibility.py:
// depth pictures of SIDE x SIDE around each view's own outline, depth normalised between whole millimetres, kaolin's
// coverage rules in float32. Compile with --fmad=false: the rules compare with equality at edges.
//
// Unlike the CPU, which raises, a vertex that is not finite is unseen and its triangles are not drawn; a view onto which
// all vertices fall in one point sees nothing. Of equally near triangles the one with the lower number is kept.
//
// Order on one stream: outline_begin, outline_project, outline_place, depth_draw, depth_test; vertex_normals anywhere.
// One thread per element (outline_begin: per pixel of the depth picture), one grid row (y) per view.

constexpr int SIDE = 200;
constexpr float BIAS = 0.003f;
constexpr float MULTIPLIER = 1000.0f;
constexpr float EPSILON = 1e-8f;
constexpr unsigned NOTHING = 0xFFFFFFFFu;

// Floats as unsigned integers of the same order, negative ones included.
__device__ inline unsigned ordered(float value) {
    const unsigned bits = __float_as_uint(value);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ inline float unordered(unsigned bits) {
    return __uint_as_float(bits & 0x80000000u ? bits & 0x7FFFFFFFu : ~bits);
}

// What a pixel holds: nearest first, so the inverted height, then the triangle.
__device__ inline unsigned long long packed(float height, unsigned triangle) {
    return (static_cast<unsigned long long>(~ordered(height)) << 32) | triangle;
}

__device__ inline float height_of(unsigned long long pixel) {
    return unordered(~static_cast<unsigned>(pixel >> 32));
}

__device__ inline bool finite(float a, float b, float c) {
    return isfinite(a) && isfinite(b) && isfinite(c);
}

// boxes: (V, 6) lowest column, row and depth, then the highest, ordered; pictures: (V, SIDE, SIDE).
extern "C" __global__ void outline_begin(unsigned *boxes, unsigned long long *pictures) {
    const int view = blockIdx.y, i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < 6) boxes[6 * view + i] = i < 3 ? NOTHING : 0u;
    if (i < SIDE * SIDE) pictures[SIDE * SIDE * view + i] = packed(0.0f, NOTHING);
}

// vertices: (N, 3) world, mm; K: (V, 3, 3); camera_from_world: (V, 3, 4) mm; flat: (V, N, 3) px, px, mm.
extern "C" __global__ void outline_project(const float *vertices, const float *K, const float *camera_from_world,
                                           int count, float *flat, unsigned *boxes) {
    const int view = blockIdx.y, i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const float *T = camera_from_world + 12 * view, *k = K + 9 * view, *v = vertices + 3 * i;
    float local[3];
    for (int row = 0; row < 3; ++row)
        local[row] = T[4 * row] * v[0] + T[4 * row + 1] * v[1] + T[4 * row + 2] * v[2] + T[4 * row + 3];
    const float depth = local[2], safe = fabsf(depth) < 1e-7f ? 1.0f : depth;
    const float x = local[0] / safe, y = local[1] / safe, z = depth / safe;
    const float place[3] = {k[0] * x + k[1] * y + k[2] * z, k[3] * x + k[4] * y + k[5] * z, depth};
    const bool good = finite(place[0], place[1], place[2]);
    for (int axis = 0; axis < 3; ++axis) {
        flat[3 * (count * view + i) + axis] = place[axis];
        if (!good) continue;
        atomicMin(boxes + 6 * view + axis, ordered(place[axis]));
        atomicMax(boxes + 6 * view + 3 + axis, ordered(place[axis]));
    }
}

// flat becomes place in -1..1 (y down) and depth in 0..1, 0 nearest; NaN where nothing can be drawn.
extern "C" __global__ void outline_place(int count, float *flat, const unsigned *boxes) {
    const int view = blockIdx.y, i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    float low[3], high[3];
    for (int axis = 0; axis < 3; ++axis) {
        low[axis] = floorf(unordered(boxes[6 * view + axis]));
        high[axis] = ceilf(unordered(boxes[6 * view + 3 + axis]));
    }
    const float extent = fmaxf(high[0] - low[0], high[1] - low[1]);
    const float range = fmaxf(high[2], low[2] + 1.0f) - low[2];
    float *p = flat + 3 * (count * view + i);
    const bool good = extent > 0.0f && finite(p[0], p[1], p[2]);
    for (int axis = 0; axis < 2; ++axis)
        p[axis] = good ? (p[axis] - (low[axis] + high[axis]) * 0.5f) * (2.0f / extent) : nanf("");
    p[2] = good ? (p[2] - low[2]) / range : nanf("");
}

// One thread per triangle: those of a head are small, a few pixels each.
extern "C" __global__ void depth_draw(const float *flat, const int *triangles, int vertices, int count,
                                      unsigned long long *pictures) {
    const int view = blockIdx.y, triangle = blockIdx.x * blockDim.x + threadIdx.x;
    if (triangle >= count) return;
    float x[3], y[3], height[3];
    for (int k = 0; k < 3; ++k) {
        const float *p = flat + 3 * (static_cast<long long>(vertices) * view + triangles[3 * triangle + k]);
        if (!finite(p[0], p[1], p[2])) return;
        x[k] = p[0] * MULTIPLIER;
        y[k] = -p[1] * MULTIPLIER;
        height[k] = 1.0f - p[2];
    }
    const float low_x = fminf(x[0], fminf(x[1], x[2])), high_x = fmaxf(x[0], fmaxf(x[1], x[2]));
    const float low_y = fminf(y[0], fminf(y[1], y[2])), high_y = fmaxf(y[0], fmaxf(y[1], y[2]));
    const float step = SIDE / 2000.0f, middle = (SIDE - 1) / 2.0f, scale = MULTIPLIER / SIDE;
    // a pixel more on each side: the half-open test below decides
    const int left = max(0, static_cast<int>(floorf(low_x * step + middle)) - 1);
    const int right = min(SIDE - 1, static_cast<int>(ceilf(high_x * step + middle)) + 1);
    const int top = max(0, static_cast<int>(floorf(middle - high_y * step)) - 1);
    const int bottom = min(SIDE - 1, static_cast<int>(ceilf(middle - low_y * step)) + 1);
    const float m = x[1] - x[0], p = y[1] - y[0], n = x[2] - x[0], q = y[2] - y[0];
    const float area = m * q - n * p + EPSILON;
    for (int row = top; row <= bottom; ++row) {
        const float py = (SIDE - 2 * row - 1) * scale;
        if (py < low_y || py >= high_y) continue;
        for (int column = left; column <= right; ++column) {
            const float px = (2 * column + 1 - SIDE) * scale;
            if (px < low_x || px >= high_x) continue;
            const float s = px - x[0], t = py - y[0];
            const float w1 = (s * q - n * t) / area, w2 = (m * t - s * p) / area, w0 = 1.0f - w1 - w2;
            if (!(w0 >= 0.0f && w1 >= 0.0f && w2 >= 0.0f)) continue;
            const float value = w0 * height[0] + w1 * height[1] + w2 * height[2];
            unsigned long long *pixel = pictures + SIDE * (SIDE * view + row) + column;
            const unsigned long long drawn = packed(value, triangle);
            // pixels only fall, so an old reading costs an atomic at most, and most of what is hidden costs none
            if (drawn < *pixel) atomicMin(pixel, drawn);
        }
    }
}

// seen: (V, N) 1 where the vertex is at most BIAS behind the picture, read bilinearly with zeros outside.
extern "C" __global__ void depth_test(const float *flat, const unsigned long long *pictures, int count,
                                      unsigned char *seen) {
    const int view = blockIdx.y, i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const float *p = flat + 3 * (count * view + i);
    unsigned char result = 0;
    if (finite(p[0], p[1], p[2])) {
        const float u = ((p[0] + 1.0f) * SIDE - 1.0f) * 0.5f, v = ((p[1] + 1.0f) * SIDE - 1.0f) * 0.5f;
        const int column = static_cast<int>(floorf(u)), row = static_cast<int>(floorf(v));
        const float fx = u - floorf(u), fy = v - floorf(v);
        float rows[2];
        for (int j = 0; j < 2; ++j) {
            float tap[2];
            for (int k = 0; k < 2; ++k) {
                const int r = row + j, c = column + k;
                const bool inside = r >= 0 && c >= 0 && r < SIDE && c < SIDE;
                tap[k] = inside ? height_of(pictures[SIDE * (SIDE * view + r) + c]) : 0.0f;
            }
            rows[j] = tap[0] * (1.0f - fx) + tap[1] * fx;
        }
        result = p[2] - BIAS <= 1.0f - (rows[0] * (1.0f - fy) + rows[1] * fy);
    }
    seen[count * view + i] = result;
}

// normals: (N, 3) unit, the sum of the cross products of the triangles around[starts[i] .. starts[i + 1]); 0 without any.
extern "C" __global__ void vertex_normals(const float *vertices, const int *triangles, const int *starts,
                                          const int *around, int count, float *normals) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    float sum[3] = {0.0f, 0.0f, 0.0f};
    for (int k = starts[i]; k < starts[i + 1]; ++k) {
        const int *corner = triangles + 3 * around[k];
        const float *a = vertices + 3 * corner[0], *b = vertices + 3 * corner[1], *c = vertices + 3 * corner[2];
        const float m[3] = {b[0] - a[0], b[1] - a[1], b[2] - a[2]}, n[3] = {c[0] - a[0], c[1] - a[1], c[2] - a[2]};
        for (int axis = 0; axis < 3; ++axis) {
            const int j = (axis + 1) % 3, l = (axis + 2) % 3;
            sum[axis] += m[j] * n[l] - m[l] * n[j];
        }
    }
    const float length = fmaxf(sqrtf(sum[0] * sum[0] + sum[1] * sum[1] + sum[2] * sum[2]), 1e-12f);
    for (int axis = 0; axis < 3; ++axis) normals[3 * i + axis] = sum[axis] / length;
}
