// CUDA C++ on a CPU: enough for the kernels of inference/kernels, which have no barriers and no shared memory.
//
// A kernel is called like by cuLaunchKernel, with pointers to its arguments. Blocks run in several threads of the
// system and in an order that the caller chooses, so that what depends on the order shows itself.
#pragma once
#include <atomic>
#include <algorithm>
#include <bit>
#include <cmath>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#define __global__
#define __device__

struct Index {
    int x, y, z;
};
inline thread_local Index threadIdx, blockIdx, blockDim, gridDim;

struct alignas(16) float4 {
    float x, y, z, w;
};

using std::isfinite;
using std::max;
using std::min;

inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }

template <class T>
T atomicMin(T *address, T value) {
    std::atomic_ref<T> place(*address);
    T before = place.load();
    while (value < before && !place.compare_exchange_weak(before, value)) {
    }
    return before;
}

template <class T>
T atomicMax(T *address, T value) {
    std::atomic_ref<T> place(*address);
    T before = place.load();
    while (value > before && !place.compare_exchange_weak(before, value)) {
    }
    return before;
}

template <class... A, std::size_t... I>
void call(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A *>(arguments[I])...);
}

// Blocks in the order first, first + step, ... modulo their number; step shares no factor with it.
template <class... A>
void launch(void (*kernel)(A...), const int *grid, const int *block, void **arguments, int threads, int step) {
    const long long blocks = 1LL * grid[0] * grid[1] * grid[2];
    auto run = [&](int worker) {
        gridDim = {grid[0], grid[1], grid[2]};
        blockDim = {block[0], block[1], block[2]};
        for (long long turn = worker; turn < blocks; turn += threads) {
            const long long b = ((turn * step) % blocks + blocks) % blocks;
            blockIdx = {int(b % grid[0]), int(b / grid[0] % grid[1]), int(b / grid[0] / grid[1])};
            for (int z = 0; z < block[2]; ++z)
                for (int y = 0; y < block[1]; ++y)
                    for (int x = 0; x < block[0]; ++x) {
                        threadIdx = {x, y, z};
                        call(kernel, arguments, std::index_sequence_for<A...>{});
                    }
        }
    };
    std::vector<std::thread> workers;
    for (int worker = 1; worker < threads; ++worker) workers.emplace_back(run, worker);
    run(0);
    for (auto &worker : workers) worker.join();
}
