// Mien's records (docs/gateway.md, version 1): bytes of the gateway to arrays. C++17 on a little-endian machine, no engine,
// no exceptions. Every length is checked before it is used; buffers are kept from message to message.
#pragma once

#include <cmath>
#include <cstring>

#include "MienJson.h"

namespace mien {

constexpr size_t header_bytes = 32;
constexpr size_t max_payload = size_t(1) << 26;

enum class Fault : uint8_t { none, newer, foreign, damaged, incomplete };
enum class Kind : uint8_t { hello = 0, topology = 1, frame = 2, weights = 3, health = 4, request = 8, end = 9 };
enum class Step : uint8_t { message, more, failed };

struct Topology {
    uint32_t key = 0, vertices = 0;
    bool has_uv = false, has_source = false;
    std::vector<uint32_t> triangles;  ///< T x 3
    std::vector<float> uv;            ///< C x 2, v up
    std::vector<uint32_t> corners;    ///< T x 3 indices into uv
    std::vector<uint32_t> source;     ///< the vertex of Mien's topology that each one repeats (request with `split`)
    std::string name;
    std::vector<std::string> units;   ///< names of the weights
};

struct Frame {
    uint32_t sequence = 0, key = 0;
    double capture_time_s = 0.0;
    bool has_pose = false, has_weights = false, has_normals = false;
    std::vector<float> positions;  ///< N x 3; empty in a record of weights
    std::vector<float> pose;       ///< 4 x 4, row by row, column vectors: world from head
    std::vector<float> weights;    ///< 0 to 1, in the order of Topology::units
    std::vector<float> normals;    ///< N x 3, pointing out
};

struct Message {
    Kind kind = Kind::end;
    Json about;         ///< hello and health
    Topology topology;  ///< topology
    Frame frame;        ///< frame and weights
    std::string text;   ///< end
};

/// A request: a JSON object, as in docs/gateway.md.
inline std::vector<uint8_t> encode_request(const std::string& json) {
    std::vector<uint8_t> record(header_bytes, 0);
    std::memcpy(record.data(), "HCM1", 4);
    record[4] = static_cast<uint8_t>(Kind::request);
    record[6] = header_bytes;
    const uint32_t size = static_cast<uint32_t>(json.size());
    std::memcpy(record.data() + 28, &size, 4);
    record.insert(record.end(), json.begin(), json.end());
    return record;
}

/// Takes blocks off a payload. After the first one that does not fit nothing more is read and `good` is false.
class Payload {
public:
    Payload(const uint8_t* data, size_t size) : at_(data), left_(size) {}
    bool good = true;

    const uint8_t* take(uint64_t count) {
        if (!good || count > left_) return good = false, nullptr;
        const uint8_t* taken = at_;
        at_ += count;
        left_ -= static_cast<size_t>(count);
        return taken;
    }
    size_t left() const { return left_; }
    void pad(uint64_t size) { take((4 - size % 4) % 4); }
    uint32_t count() {
        uint32_t value = 0;
        if (const uint8_t* from = take(4)) std::memcpy(&value, from, 4);
        return value;
    }
    template <class T>
    void array(std::vector<T>& to, uint64_t count) {
        to.clear();
        const uint8_t* from = take(count * sizeof(T));
        if (!from || count == 0) return;
        to.resize(static_cast<size_t>(count));
        std::memcpy(to.data(), from, static_cast<size_t>(count) * sizeof(T));
    }
    void text(std::string& to, uint64_t size) {
        const uint8_t* from = take(size);
        if (from && !valid_utf8(from, static_cast<size_t>(size))) good = false;
        to.assign(good ? reinterpret_cast<const char*>(from) : "", good ? static_cast<size_t>(size) : 0);
    }
    void json(Json& to, uint64_t size) {
        const uint8_t* from = take(size);
        good = from && valid_utf8(from, static_cast<size_t>(size)) &&
               JsonParser(from, static_cast<size_t>(size)).parse(to) && to.type == Json::Type::object;
        if (!good) to = Json();
    }
    /// Bytes may be left only behind a flag of a later version.
    void end(uint8_t flags, uint8_t known) {
        if (left_ != 0 && !(flags & ~known)) good = false;
    }

private:
    const uint8_t* at_;
    size_t left_;
};

/// Reads one connection: feed() what came, then next() until it wants more. After a failure, and for a new connection, reset().
class Reader {
public:
    void reset() { *this = Reader(); }
    Fault fault() const { return fault_; }
    /// One line for people: what is wrong and what to do.
    const std::string& error() const { return error_; }

    void feed(const uint8_t* data, size_t size) {
        if (begin_ != 0) {
            buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(begin_));
            begin_ = 0;
        }
        buffer_.insert(buffer_.end(), data, data + size);
    }

    Step next(Message& message) {
        while (fault_ == Fault::none) {
            const uint8_t* record = buffer_.data() + begin_;
            const size_t there = buffer_.size() - begin_;
            size_t size = 0;
            if (!check(record, there, size)) return Step::failed;
            if (size == 0 || there < size) return Step::more;
            begin_ += size;
            const Step step = read(record, size, message);
            if (step != Step::more) return step;  // more: a kind of a later version
        }
        return Step::failed;
    }

    /// Says that the stream has ended; false: inside a record.
    bool close() {
        if (fault_ != Fault::none) return false;
        if (begin_ == buffer_.size()) return true;
        return fail(Fault::incomplete, "the stream ended inside a record");
    }

    /// Reads one whole record of exactly `size` bytes (a WebSocket message); more: a kind of a later version, skipped.
    Step read(const uint8_t* record, size_t size, Message& message) {
        size_t told = 0;
        if (!check(record, size, told)) return Step::failed;
        if (told != size) return fail(told == 0 ? Fault::incomplete : Fault::damaged, "a record is cut short"), Step::failed;
        const Header header(record);
        message.kind = static_cast<Kind>(header.kind);
        Payload payload(record + header.begin, size - header.begin);
        switch (message.kind) {
            case Kind::hello: known_ = false; [[fallthrough]];
            case Kind::health: payload.json(message.about, payload.left()); break;
            case Kind::end: payload.text(message.text, payload.left()); break;
            case Kind::topology: topology(payload, header, message.topology); break;
            case Kind::frame:
            case Kind::weights: frame(payload, header, message.kind == Kind::frame, message.frame); break;
            default: return Step::more;
        }
        if (fault_ == Fault::none && !payload.good) fail(Fault::damaged, "a record does not fit its lengths; is this Mien's gateway?");
        return fault_ == Fault::none ? Step::message : Step::failed;
    }

private:
    struct Header {
        explicit Header(const uint8_t* record) : kind(record[4]), flags(record[5]) {
            std::memcpy(&begin, record + 6, 2);
            std::memcpy(&sequence, record + 8, 4);
            std::memcpy(&key, record + 12, 4);
            std::memcpy(&time_s, record + 16, 8);
            std::memcpy(&vertices, record + 24, 4);
            std::memcpy(&payload, record + 28, 4);
        }
        uint8_t kind, flags;
        uint16_t begin = 0;
        uint32_t sequence = 0, key = 0, vertices = 0, payload = 0;
        double time_s = 0.0;
    };

    bool fail(Fault fault, const char* why) {
        fault_ = fault;
        error_ = why;
        return false;
    }
    /// Checks what is there of a header; size: bytes of the record, 0 while the header is not whole.
    bool check(const uint8_t* record, size_t there, size_t& size) {
        for (size_t k = 0; k < 4 && k < there; ++k) {
            if (record[k] == static_cast<uint8_t>("HCM1"[k])) continue;
            if (k == 3) return fail(Fault::newer, "the server speaks another version: use the plugin that came with your Mien");
            return fail(Fault::foreign, "what answers there is not Mien; the port is serve.tcp_port, 5750 by default");
        }
        if (there < header_bytes) return true;
        const Header header(record);
        if (header.begin < header_bytes || header.begin % 8 != 0 || header.payload > max_payload)
            return fail(Fault::damaged, "a record has a size that cannot be");
        size = size_t(header.begin) + header.payload;
        return true;
    }
    static bool within(const std::vector<uint32_t>& indices, uint64_t count) {
        for (const uint32_t index : indices) {
            if (index >= count) return false;
        }
        return true;
    }
    void topology(Payload& payload, const Header& header, Topology& told) {
        told.key = header.key;
        told.vertices = header.vertices;
        const uint64_t triangles = payload.count();
        payload.array(told.triangles, 3 * triangles);
        payload.good = payload.good && within(told.triangles, told.vertices);
        told.has_uv = header.flags & 1;
        told.has_source = header.flags & 4;
        told.uv.clear(), told.corners.clear(), told.source.clear(), told.name.clear(), told.units.clear();
        if (told.has_uv) {
            const uint64_t points = payload.count();
            payload.array(told.uv, 2 * points);
            payload.array(told.corners, 3 * triangles);
            payload.good = payload.good && within(told.corners, points);
        }
        if (header.flags & 2) names(payload, told);
        if (told.has_source) payload.array(told.source, told.vertices);
        payload.end(header.flags, 1 | 2 | 4);
        known_ = payload.good;
        key_ = told.key;
        vertices_ = told.vertices;
    }
    static void names(Payload& payload, Topology& told) {
        Json about;
        const uint64_t size = payload.count();
        payload.json(about, size);
        payload.pad(size);
        const Json *name = about.find("name"), *units = about.find("units");
        if ((name && name->type != Json::Type::text) || (units && units->type != Json::Type::list)) payload.good = false;
        if (!payload.good) return;
        told.name = about.string("name");
        for (size_t k = 0; units && k < units->items.size(); ++k) {
            payload.good = payload.good && units->items[k].type == Json::Type::text;
            told.units.push_back(units->items[k].text);
        }
    }
    /// Positions computed in double, rounded once: every reader has the same bits.
    static void dequantise(Payload& payload, uint64_t vertices, std::vector<float>& to) {
        float box[6] = {};
        if (const uint8_t* from = payload.take(sizeof box)) std::memcpy(box, from, sizeof box);
        const uint8_t* from = payload.take(6 * vertices);
        payload.pad(6 * vertices);
        to.resize(payload.good ? static_cast<size_t>(3 * vertices) : 0);
        for (size_t k = 0; k < to.size(); ++k) {
            uint16_t q = 0;
            std::memcpy(&q, from + 2 * k, 2);
            const double step = static_cast<double>(q) * static_cast<double>(box[3 + k % 3]);  // exact: 16 + 24 bits
            to[k] = static_cast<float>(static_cast<double>(box[k % 3]) + step);
        }
    }
    static void normals(Payload& payload, uint64_t vertices, bool quantised, std::vector<float>& to) {
        if (!quantised) return payload.array(to, 3 * vertices);
        const uint8_t* from = payload.take(3 * vertices);
        payload.pad(3 * vertices);
        to.resize(payload.good ? static_cast<size_t>(3 * vertices) : 0);
        for (size_t k = 0; k < to.size(); ++k) to[k] = static_cast<float>(static_cast<int8_t>(from[k]) / 127.0);
    }
    void frame(Payload& payload, const Header& header, bool mesh, Frame& told) {
        const uint64_t vertices = mesh ? header.vertices : 0;
        const bool quantised = mesh && (header.flags & 8);
        told.sequence = header.sequence;
        told.key = header.key;
        told.capture_time_s = header.time_s;
        told.has_pose = header.flags & 1;
        told.has_weights = header.flags & 2;
        told.has_normals = header.flags & 4;
        if (!known_ || header.key != key_ || (mesh && vertices != vertices_)) {
            fail(Fault::damaged, "a frame came before its topology; connecting again helps");
            return;
        }
        if (quantised) dequantise(payload, vertices, told.positions);
        else payload.array(told.positions, 3 * vertices);
        payload.array(told.pose, told.has_pose ? 16 : 0);
        payload.array(told.weights, told.has_weights ? payload.count() : 0);
        if (told.has_normals) normals(payload, vertices, header.flags & 8, told.normals);
        else told.normals.clear();
        payload.end(header.flags, 1 | 2 | 4 | 8);
        for (const float value : told.positions) {
            if (!std::isfinite(value)) {
                fail(Fault::damaged, "a frame holds positions that are no numbers");
                return;
            }
        }
    }

    std::vector<uint8_t> buffer_;
    size_t begin_ = 0;
    bool known_ = false;
    uint32_t key_ = 0, vertices_ = 0;
    Fault fault_ = Fault::none;
    std::string error_;
};

}  // namespace mien
