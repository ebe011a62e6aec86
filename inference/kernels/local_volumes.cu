// Local volumes of the refinement: feature maps sampled at every voxel around every vertex and fused over the views in
// one pass, the sums of w, w f and w f^2 in registers. Rules and quirks: inference/tempeh/published/refine.py.
//
// Maps are those of PublishedFeatures.compact, channels last: a full map is its nearest repeat, so a tap at pixel (x, y)
// reads (x >> 1, y >> 1). A view with mask 0 does not exist; without any view the volume is 0.

constexpr int CHANNELS = 8;
constexpr float NEVER = 1e-7f;
constexpr float NEAR_MM = 1.0f;
constexpr float FAR_PX = 1e4f;
constexpr float SOFTNESS = 50.0f;
constexpr float LINEAR = 5.0f;
constexpr float HIDDEN = 0.5f;

struct Place {
    float u, v;  // px, taps at whole numbers
    bool inside;
};

// x, y, z: in the camera's frame, mm; K: (2, 3) for pictures of width x height; lens: k1, k2.
__device__ inline Place place_of(float x, float y, float z, const float *K, const float *lens, int width, int height,
                                 bool quirks) {
    const bool hidden = quirks ? fabsf(z) < NEVER : z < NEAR_MM;
    const float depth = hidden ? 1.0f : z, w = static_cast<float>(width), h = static_cast<float>(height);
    x /= depth;
    y /= depth;
    const float r2 = x * x + y * y, bend = 1.0f + lens[0] * r2 + lens[1] * (r2 * r2);
    x *= bend;
    y *= bend;
    float u = K[0] * x + K[1] * y + K[2], v = K[3] * x + K[4] * y + K[5];
    bool inside;
    if (quirks) {
        inside = u >= 0.0f && v >= 0.0f && u <= w - 1.0f && v <= h - 1.0f;
        u = u * (w / (w - 1.0f)) - 0.5f;
        v = v * (h / (h - 1.0f)) - 0.5f;
    } else {
        inside = !hidden && u >= -0.5f && v >= -0.5f && u <= w - 0.5f && v <= h - 0.5f;
        if (hidden) u = -FAR_PX;
    }
    return {fminf(fmaxf(u, -FAR_PX), FAR_PX), fminf(fmaxf(v, -FAR_PX), FAR_PX), inside};
}

// softplus with beta SOFTNESS of what a view says about a point; torch's threshold.
__device__ inline float weight_of(float raw) {
    const float steep = SOFTNESS * raw;
    return steep > LINEAR ? raw : log1pf(expf(steep)) / SOFTNESS;
}

__device__ inline void add_tap(const float *map, int half, int x, int y, float share, float *f) {
    const float4 *tap = reinterpret_cast<const float4 *>(map + CHANNELS * ((y >> 1) * half + (x >> 1)));
    const float4 a = tap[0], b = tap[1];
    f[0] += share * a.x;
    f[1] += share * a.y;
    f[2] += share * a.z;
    f[3] += share * a.w;
    f[4] += share * b.x;
    f[5] += share * b.y;
    f[6] += share * b.z;
    f[7] += share * b.w;
}

// Bilinear, zeros beyond the picture.
__device__ inline void sample(const float *map, Place place, int width, int height, float *f) {
    for (int k = 0; k < CHANNELS; ++k) f[k] = 0.0f;
    const int x = static_cast<int>(floorf(place.u)), y = static_cast<int>(floorf(place.v)), half = (width + 1) >> 1;
    const float fx = place.u - x, fy = place.v - y;
    for (int j = 0; j < 2; ++j)
        for (int i = 0; i < 2; ++i)
            if (x + i >= 0 && y + j >= 0 && x + i < width && y + j < height)
                add_tap(map, half, x + i, y + j, (i ? fx : 1.0f - fx) * (j ? fy : 1.0f - fy), f);
}

// One block per vertex, its threads stride over the voxels.
//
// maps: (V, ceil(height / 2), ceil(width / 2), 8), 16-byte aligned; mask: (V,); K: (V, 2, 3); lens: (V, 2);
// camera_from_world: (V, 3, 4) mm; grid: (P, 3) displacements of the voxels, mm; vertices: (M, 3) world, mm;
// normals: (M, 3) unit; seen: (V, M); embedding: (M, 3); volumes: (M, 19, P): means, variances, embedding.
extern "C" __global__ void local_volumes(const float *maps, const unsigned char *mask, const float *K,
                                         const float *lens, const float *camera_from_world, const float *grid,
                                         const float *vertices, const float *normals, const unsigned char *seen,
                                         const float *embedding, int views, int count, int voxels, int width,
                                         int height, int quirks, float *volumes) {
    const int vertex = blockIdx.x;
    const float *n = normals + 3 * vertex, *centre = vertices + 3 * vertex;
    const int stride = CHANNELS * ((width + 1) >> 1) * ((height + 1) >> 1);
    for (int voxel = threadIdx.x; voxel < voxels; voxel += blockDim.x) {
        const float point[3] = {centre[0] + grid[3 * voxel], centre[1] + grid[3 * voxel + 1],
                                centre[2] + grid[3 * voxel + 2]};
        float total = 0.0f, first[CHANNELS] = {}, second[CHANNELS] = {};
        for (int view = 0; view < views; ++view) {
            if (!mask[view]) continue;
            const float *T = camera_from_world + 12 * view;
            float local[3], facing = 0.0f, squared = 0.0f;
            for (int i = 0; i < 3; ++i) {
                const float *row = T + 4 * i;
                local[i] = row[0] * point[0] + row[1] * point[1] + row[2] * point[2] + row[3];
                facing -= local[i] * (row[0] * n[0] + row[1] * n[1] + row[2] * n[2]);
                squared += local[i] * local[i];
            }
            const Place place = place_of(local[0], local[1], local[2], K + 6 * view, lens + 2 * view, width, height,
                                         quirks != 0);
            const float factor = seen[count * view + vertex] ? 1.0f : (quirks ? HIDDEN : 0.0f);
            const float towards = place.inside ? fmaxf(facing / fmaxf(sqrtf(squared), 1e-12f), 0.0f) : 0.0f;
            const float weight = weight_of(factor * towards);
            total += weight;
            float f[CHANNELS];
            sample(maps + static_cast<long long>(stride) * view, place, width, height, f);
            for (int k = 0; k < CHANNELS; ++k) {
                const float weighted = weight * f[k];
                first[k] += weighted;
                second[k] += weighted * f[k];
            }
        }
        const float share = total > 0.0f ? 1.0f / total : 0.0f;
        float *out = volumes + static_cast<long long>(2 * CHANNELS + 3) * voxels * vertex + voxel;
        for (int k = 0; k < CHANNELS; ++k) {
            const float mean = first[k] * share;
            out[k * voxels] = mean;
            out[(CHANNELS + k) * voxels] = second[k] * share - mean * mean;
        }
        for (int k = 0; k < 3; ++k) out[(2 * CHANNELS + k) * voxels] = embedding[3 * vertex + k];
    }
}
