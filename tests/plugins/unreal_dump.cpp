// Prints what the C++ decoder reads in streams, in the form of tests/plugins/golden.py:
//     dump STEP FILE...       feeds STEP bytes at a time
//     json 0 FILE             whether each line is a JSON object
//     fuzz ROUNDS FILE...     every truncation, then so many mutations; built with sanitizers it ends at the first bad read
// With -DLIBFUZZER it is a target for clang's -fsanitize=fuzzer instead.
#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>

#include "MienRecords.h"

namespace {

using Bytes = std::vector<uint8_t>;

template <class T>
std::string hex(const std::vector<T>& values, bool there) {
    if (!there) return "-";
    std::string text;
    for (T value : values) {
        value = value + T(0);  // -0 + 0 is 0
        uint8_t bytes[sizeof(T)];
        std::memcpy(bytes, &value, sizeof(T));
        for (const uint8_t byte : bytes) {
            text += "0123456789abcdef"[byte >> 4];
            text += "0123456789abcdef"[byte & 15];
        }
    }
    return text;
}

std::string joined(const std::vector<std::string>& words) {
    std::string text;
    for (const std::string& word : words) text += (text.empty() ? "" : ",") + word;
    return text;
}

std::string hello(const mien::Json& about) {
    std::string text = "hello " + about.string("target") + " " + joined(about.find("axes")->texts) + " " + about.string("unit") + " " + about.string("winding");
    for (const char* name : {"mesh", "normals", "quantised", "split", "token"}) text += std::string(" ") + name + (about.truth(name) ? "=1" : "=0");
    return text;
}

std::string topology(const mien::Topology& told) {
    char begin[40];
    std::snprintf(begin, sizeof begin, "topology %08" PRIx32 " %" PRIu32, told.key, told.vertices);
    return begin + (" triangles=" + hex(told.triangles, true)) + " uv=" + hex(told.uv, told.has_uv) + " corners=" +
           hex(told.corners, told.has_uv) + " source=" + hex(told.source, told.has_source) + " units=" + joined(told.units) + " name=" + told.name;
}

std::string frame(const mien::Frame& told, bool mesh) {
    char begin[40];
    std::snprintf(begin, sizeof begin, "%s %" PRIu32 " %08" PRIx32 " ", mesh ? "frame" : "weights", told.sequence, told.key);
    std::string text = begin + hex(std::vector<double>{told.capture_time_s}, true);
    if (mesh) text += " positions=" + hex(told.positions, true);
    text += " pose=" + hex(told.pose, told.has_pose) + " weights=" + hex(told.weights, told.has_weights);
    if (mesh) text += " normals=" + hex(told.normals, told.has_normals);
    return text;
}

std::string line(const mien::Message& message) {
    switch (message.kind) {
        case mien::Kind::hello: return hello(message.about);
        case mien::Kind::health: return "health " + message.about.string("state");
        case mien::Kind::end: return "end " + message.text;
        case mien::Kind::topology: return topology(message.topology);
        default: return frame(message.frame, message.kind == mien::Kind::frame);
    }
}

void dump(const Bytes& stream, size_t step) {
    mien::Reader reader;
    mien::Message message;
    for (size_t at = 0; at < stream.size() && reader.fault() == mien::Fault::none; at += step) {
        reader.feed(stream.data() + at, std::min(step, stream.size() - at));
        while (reader.next(message) == mien::Step::message) std::printf("%s\n", line(message).c_str());
    }
    if (reader.close()) return;
    static const char* const names[] = {"none", "newer", "foreign", "damaged", "incomplete"};
    std::printf("error %s\nsaid %s\n", names[static_cast<size_t>(reader.fault())], reader.error().c_str());
}

/// Reads a stream from memory that ends where the stream does, then each record of it from memory of its own.
size_t survive(const uint8_t* data, size_t size) {
    mien::Reader reader, single;
    mien::Message message;
    size_t read = 0;
    reader.feed(data, size);
    while (reader.next(message) == mien::Step::message) ++read;
    reader.close();
    for (size_t at = 0; at + sizeof(mien::Header) <= size;) {
        uint16_t begin = 0;
        uint32_t payload = 0;
        std::memcpy(&begin, data + at + 6, 2);
        std::memcpy(&payload, data + at + 28, 4);
        const size_t length = std::min<size_t>(size - at, size_t(begin) + payload);
        if (length == 0) break;
        const std::unique_ptr<uint8_t[]> exact(new uint8_t[length]);
        std::memcpy(exact.get(), data + at, length);
        if (single.read(exact.get(), length, message) == mien::Step::failed) break;
        at += length;
    }
    return read;
}

uint64_t state = 88172645463325252ull;
uint64_t random_number() {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}

Bytes mutated(Bytes data) {
    static const uint32_t edges[] = {0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x55555556, 0x15555556, 1u << 26};
    for (uint64_t k = random_number() % 4 + 1; k > 0 && data.size() > 4; --k) {
        const size_t at = random_number() % (data.size() - 4);
        switch (random_number() % 4) {
            case 0: data[at] = static_cast<uint8_t>(random_number()); break;
            case 1: std::memcpy(&data[at], &edges[random_number() % 8], 4); break;
            case 2: data.erase(data.begin() + static_cast<std::ptrdiff_t>(at), data.begin() + static_cast<std::ptrdiff_t>(at + random_number() % 4)); break;
            default: data.resize(at + 1);
        }
    }
    return data;
}

Bytes load(const char* path) {
    std::ifstream file(path, std::ios::binary);
    return Bytes(std::istreambuf_iterator<char>(file), {});
}

}  // namespace

#ifdef LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    survive(data, size);
    return 0;
}
#else
int main(int count, char** words) {
    if (count < 4) return 2;
    const size_t number = std::strtoull(words[2], nullptr, 10);
    if (std::string(words[1]) == "json") {  // a line each: whether it is an object
        std::ifstream file(words[3]);
        mien::Json json;
        for (std::string line; std::getline(file, line);) {
            const auto* text = reinterpret_cast<const uint8_t*>(line.data());
            std::printf("%d\n", mien::valid_utf8(text, line.size()) && mien::JsonParser(text, line.size()).parse(json));
        }
        return 0;
    }
    std::vector<Bytes> streams;
    for (int k = 3; k < count; ++k) streams.push_back(load(words[k]));
    if (std::string(words[1]) == "dump") {
        for (int k = 3; k < count; ++k) {
            std::printf("# %s\n", words[k]);
            dump(streams[static_cast<size_t>(k - 3)], number);
        }
        return 0;
    }
    size_t read = 0, cuts = 0;
    for (const Bytes& stream : streams) {
        for (size_t size = 0; size < stream.size(); size += stream.size() > 4000 ? 37 : 5, ++cuts) {
            const Bytes exact(stream.begin(), stream.begin() + static_cast<std::ptrdiff_t>(size));
            read += survive(exact.data(), size);
        }
        read += survive(stream.data(), stream.size());
    }
    for (size_t k = 0; k < number; ++k) {
        const Bytes data = mutated(streams[k % streams.size()]);
        read += survive(data.data(), data.size());
    }
    std::printf("%zu truncations, %zu mutations, %zu messages read\n", cuts, number, read);
}
#endif
