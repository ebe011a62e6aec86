// Mien's records (docs/gateway.md, version 1): bytes of the gateway to arrays. C++17 on a little-endian machine, no engine,
// no exceptions. Every length is checked before it is used; buffers are kept from message to message.
#pragma once

#include <cmath>
#include <cstring>

#include "MienJson.h"

namespace mien {

constexpr size_t max_payload = size_t(1) << 26;

enum class Fault : uint8_t { none, newer, foreign, damaged, incomplete };
enum class Kind : uint8_t { hello = 0, topology = 1, frame = 2, weights = 3, health = 4, request = 8, end = 9 };
enum class Step : uint8_t { message, more, failed };

struct Header {
    char magic[4] = {'H', 'C', 'M', '1'};
    Kind kind = Kind::request;
    uint8_t flags = 0;
    uint16_t begin = 32;  ///< of the payload
    uint32_t sequence = 0, key = 0;
    double time_s = 0.0;
    uint32_t vertices = 0, payload = 0;
};
static_assert(sizeof(Header) == 32, "as on the wire, without holes");

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
    Header header;
    header.payload = static_cast<uint32_t>(json.size());
    std::vector<uint8_t> record(sizeof header);
    std::memcpy(record.data(), &header, sizeof header);
    record.insert(record.end(), json.begin(), json.end());
    return record;
}

/// Takes blocks off a payload. After the first one that does not fit nothing more is read and `good` is false.
class Payload {
public:
    Payload(const uint8_t* data, size_t size) : at_(data), left_(size) {}
    bool good = true;

    const uint8_t* take(uint64_t count, bool padded = false) {
        if (padded) count += (4 - count % 4) % 4;
        if (!good || count > left_) return good = false, nullptr;
        at_ += count;
        left_ -= static_cast<size_t>(count);
        return at_ - count;
    }
    size_t left() const { return left_; }
    uint32_t count() {
        uint32_t value = 0;
        if (const uint8_t* from = take(4)) std::memcpy(&value, from, 4);
        return value;
    }
    template <class T>
    void array(std::vector<T>& to, uint64_t count) {
        const uint8_t* from = take(count * sizeof(T));
        to.resize(from ? static_cast<size_t>(count) : 0);
        if (!to.empty()) std::memcpy(to.data(), from, to.size() * sizeof(T));
    }
    void indices(std::vector<uint32_t>& to, uint64_t count, uint64_t below) {
        array(to, count);
        for (const uint32_t index : to) good = good && index < below;
    }
    void text(std::string& to, uint64_t size, bool padded = false) {
        const uint8_t* from = take(size, padded);
        good = good && valid_utf8(from, static_cast<size_t>(size));
        to.assign(good ? reinterpret_cast<const char*>(from) : "", good ? static_cast<size_t>(size) : 0);
    }
    void json(Json& to, uint64_t size, bool padded = false) {
        std::string whole;
        text(whole, size, padded);
        good = good && JsonParser(reinterpret_cast<const uint8_t*>(whole.data()), whole.size()).parse(to);
    }
    /// Bytes may be left only behind a flag of a later version.
    void end(uint8_t flags, uint8_t known) { good = good && (left_ == 0 || (flags & ~known)); }

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
        buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(begin_));
        begin_ = 0;
        buffer_.insert(buffer_.end(), data, data + size);
    }

    Step next(Message& message) {
        while (fault_ == Fault::none) {
            const size_t there = buffer_.size() - begin_;
            size_t size = 0;
            if (!measure(buffer_.data() + begin_, there, size)) return Step::failed;
            if (size == 0 || there < size) return Step::more;
            const Step step = read(buffer_.data() + (begin_ += size) - size, size, message);
            if (step != Step::more) return step;  // more: a kind of a later version
        }
        return Step::failed;
    }

    /// Says that the stream has ended; false: inside a record.
    bool close() {
        if (fault_ != Fault::none) return false;
        return begin_ == buffer_.size() || fail(Fault::incomplete, "the stream ended inside a record");
    }

    /// Reads one whole record of exactly `size` bytes (a WebSocket message); more: a kind of a later version, skipped.
    Step read(const uint8_t* record, size_t size, Message& message) {
        size_t told = 0;
        if (!measure(record, size, told)) return Step::failed;
        if (told != size) return fail(told == 0 ? Fault::incomplete : Fault::damaged, "a record is cut short"), Step::failed;
        Header header;
        std::memcpy(&header, record, sizeof header);
        message.kind = header.kind;
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
    bool fail(Fault fault, const char* why) {
        fault_ = fault, error_ = why;
        return false;
    }
    /// Checks what is there of a header; size: bytes of the record, 0 while the header is not whole.
    bool measure(const uint8_t* record, size_t there, size_t& size) {
        Header header;
        for (size_t k = 0; k < 4 && k < there; ++k) {
            if (record[k] == static_cast<uint8_t>(header.magic[k])) continue;
            return k == 3 ? fail(Fault::newer, "the server speaks another version: use the plugin that came with your Mien")
                          : fail(Fault::foreign, "what answers there is not Mien; the port is serve.tcp_port, 5750 by default");
        }
        if (there < sizeof header) return true;
        std::memcpy(&header, record, sizeof header);
        if (header.begin < sizeof header || header.begin % 8 != 0 || header.payload > max_payload)
            return fail(Fault::damaged, "a record has a size that cannot be");
        size = size_t(header.begin) + header.payload;
        return true;
    }
    void topology(Payload& payload, const Header& header, Topology& told) {
        told = Topology();
        told.key = header.key, told.vertices = header.vertices;
        told.has_uv = header.flags & 1, told.has_source = header.flags & 4;
        const uint64_t triangles = payload.count();
        payload.indices(told.triangles, 3 * triangles, told.vertices);
        if (told.has_uv) {
            const uint64_t points = payload.count();
            payload.array(told.uv, 2 * points);
            payload.indices(told.corners, 3 * triangles, points);
        }
        if (header.flags & 2) names(payload, told);
        if (told.has_source) payload.array(told.source, told.vertices);
        payload.end(header.flags, 1 | 2 | 4);
        known_ = payload.good, key_ = told.key, vertices_ = told.vertices;
    }
    static void names(Payload& payload, Topology& told) {
        Json about;
        payload.json(about, payload.count(), true);
        const Json::Member *name = about.find("name"), *units = about.find("units");
        payload.good = payload.good && (!name || name->type == '"') && (!units || (units->type == '[' && units->all_text));
        told.name = about.string("name");
        if (payload.good && units) told.units = units->texts;
    }
    /// Positions computed in double, rounded once: every reader has the same bits.
    static void dequantise(Payload& payload, uint64_t vertices, std::vector<float>& to) {
        float box[6] = {};
        if (const uint8_t* from = payload.take(sizeof box)) std::memcpy(box, from, sizeof box);
        const uint8_t* from = payload.take(6 * vertices, true);
        to.resize(from ? static_cast<size_t>(3 * vertices) : 0);
        for (size_t k = 0; k < to.size(); ++k) {
            const int q = from[2 * k] | from[2 * k + 1] << 8;
            to[k] = static_cast<float>(double(box[k % 3]) + q * double(box[3 + k % 3]));  // the product is exact: 16 + 24 bits
        }
    }
    static void normals(Payload& payload, uint64_t vertices, bool quantised, std::vector<float>& to) {
        if (!quantised) return payload.array(to, 3 * vertices);
        const uint8_t* from = payload.take(3 * vertices, true);
        to.resize(from ? static_cast<size_t>(3 * vertices) : 0);
        for (size_t k = 0; k < to.size(); ++k) to[k] = static_cast<float>(static_cast<int8_t>(from[k]) / 127.0);
    }
    void frame(Payload& payload, const Header& header, bool mesh, Frame& told) {
        const uint64_t vertices = mesh ? header.vertices : 0;
        told.sequence = header.sequence, told.key = header.key, told.capture_time_s = header.time_s;
        told.has_pose = header.flags & 1, told.has_weights = header.flags & 2, told.has_normals = header.flags & 4;
        if (!known_ || header.key != key_ || (mesh && vertices != vertices_))
            return void(fail(Fault::damaged, "a frame came before its topology; connecting again helps"));
        if (mesh && (header.flags & 8)) dequantise(payload, vertices, told.positions);
        else payload.array(told.positions, 3 * vertices);
        payload.array(told.pose, told.has_pose ? 16 : 0);
        payload.array(told.weights, told.has_weights ? payload.count() : 0);
        normals(payload, told.has_normals ? vertices : 0, header.flags & 8, told.normals);
        payload.end(header.flags, 1 | 2 | 4 | 8);
        bool finite = true;
        for (const float value : told.positions) finite = finite && std::isfinite(value);
        if (!finite) fail(Fault::damaged, "a frame holds positions that are no numbers");
    }

    std::vector<uint8_t> buffer_;
    size_t begin_ = 0;
    bool known_ = false;
    uint32_t key_ = 0, vertices_ = 0;
    Fault fault_ = Fault::none;
    std::string error_;
};

}  // namespace mien
