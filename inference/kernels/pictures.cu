// Camera pictures to network input in one pass: Bayer mosaic or RGB or grey, a window of it averaged to the network's
// size, normalised, channels first. Each output pixel averages the area that it covers, as the exact way of
// inference.framing.Resampler does; what lies outside the picture counts as black. Nothing is rounded to 8 bits between.
//
// A mosaic is interpolated bilinearly at each source pixel (the mean of the nearest neighbours of a colour), mirrored at
// the borders without repeating the edge, which keeps the pattern (so a mosaic has at least 2 x 2 pixels). Averages of
// more than a few pixels hide finer methods.

constexpr int RGB = 0, GREY = 1;  // otherwise a mosaic: 2 + column + 2 row of the first red pixel: RGGB 2 ... BGGR 5

__device__ inline int mirrored(int i, int size) {
    i = i < 0 ? -i : i;
    return i >= size ? 2 * size - 2 - i : i;
}

__device__ inline float at(const unsigned char *picture, int width, int height, int x, int y) {
    return picture[static_cast<long long>(mirrored(y, height)) * width + mirrored(x, width)];
}

__device__ inline void colour(const unsigned char *p, int width, int height, int layout, int x, int y, float *rgb) {
    const long long i = static_cast<long long>(y) * width + x;
    if (layout == RGB || layout == GREY) {
        for (int k = 0; k < 3; ++k) rgb[k] = layout == RGB ? p[3 * i + k] : p[i];
        return;
    }
    const bool red_column = ((x ^ (layout - 2)) & 1) == 0, red_row = ((y ^ ((layout - 2) >> 1)) & 1) == 0;
    const float here = p[i];
    const float beside = 0.5f * (at(p, width, height, x - 1, y) + at(p, width, height, x + 1, y));
    const float above = 0.5f * (at(p, width, height, x, y - 1) + at(p, width, height, x, y + 1));
    if (red_column != red_row) {  // green: red beside it in red's row, above it in red's column
        rgb[0] = red_row ? beside : above;
        rgb[1] = here;
        rgb[2] = red_row ? above : beside;
        return;
    }
    const float corners = 0.25f * (at(p, width, height, x - 1, y - 1) + at(p, width, height, x + 1, y - 1) +
                                   at(p, width, height, x - 1, y + 1) + at(p, width, height, x + 1, y + 1));
    rgb[0] = red_row ? here : corners;
    rgb[1] = 0.5f * (beside + above);
    rgb[2] = red_row ? corners : here;
}

// The part of source pixel i, centred at i + 1/2, that lies between two edges.
__device__ inline float overlap(int i, float low, float high) {
    return fmaxf(0.0f, fminf(high, i + 1.0f) - fmaxf(low, static_cast<float>(i)));
}

// One thread per output pixel, one grid layer (z) per view, all pictures of one size.
//
// sources: (V, source_height, source_width[, 3]); mask: (V,) 0 gives a picture of zeros before normalisation;
// windows: (V, 4) left, top, width, height, source px; mean, deviation: (3,) of values in 0..1;
// out: (V, 3, height, width).
extern "C" __global__ void pictures(const unsigned char *sources, const unsigned char *mask, const float *windows,
                                    const float *mean, const float *deviation, int source_width, int source_height,
                                    int layout, int width, int height, float *out) {
    const int column = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y * blockDim.y + threadIdx.y;
    const int view = blockIdx.z;
    if (column >= width || row >= height) return;
    const float *window = windows + 4 * view, step_x = window[2] / width, step_y = window[3] / height;
    const float left = window[0] + column * step_x, right = window[0] + (column + 1) * step_x;
    const float top = window[1] + row * step_y, bottom = window[1] + (row + 1) * step_y;
    const int first_x = max(0, static_cast<int>(floorf(left))), first_y = max(0, static_cast<int>(floorf(top)));
    const int end_x = min(source_width, static_cast<int>(ceilf(right)));
    const int end_y = min(source_height, static_cast<int>(ceilf(bottom)));
    const int samples = layout == RGB ? 3 : 1;
    const unsigned char *p = sources + static_cast<long long>(samples) * source_width * source_height * view;
    float sum[3] = {0.0f, 0.0f, 0.0f};
    for (int y = first_y; mask[view] && y < end_y; ++y) {
        const float tall = overlap(y, top, bottom);
        for (int x = first_x; x < end_x; ++x) {
            const float share = tall * overlap(x, left, right);
            float rgb[3];
            colour(p, source_width, source_height, layout, x, y, rgb);
            for (int k = 0; k < 3; ++k) sum[k] += share * rgb[k];
        }
    }
    const float scale = 1.0f / (255.0f * step_x * step_y);
    for (int k = 0; k < 3; ++k)
        out[((static_cast<long long>(view) * 3 + k) * height + row) * width + column] =
            (sum[k] * scale - mean[k]) / deviation[k];
}
