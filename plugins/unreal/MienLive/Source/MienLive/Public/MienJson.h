// JSON as the gateway sends it (hello, health, names of a topology), checked strictly. C++17, no engine, no exceptions.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace mien {

/// Whether bytes are UTF-8: no overlong forms, no surrogates, nothing beyond U+10FFFF.
inline bool valid_utf8(const uint8_t* text, size_t size) {
    for (size_t at = 0; at < size;) {
        const uint8_t first = text[at++];
        if (first < 0x80) continue;
        const int more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
        if (first < 0xC2 || first > 0xF4) return false;
        for (int k = 0; k < more; ++k, ++at) {
            if (at >= size) return false;
            uint8_t low = 0x80, high = 0xBF;
            if (k == 0 && first == 0xE0) low = 0xA0;
            if (k == 0 && first == 0xED) high = 0x9F;
            if (k == 0 && first == 0xF0) low = 0x90;
            if (k == 0 && first == 0xF4) high = 0x8F;
            if (text[at] < low || text[at] > high) return false;
        }
    }
    return true;
}

/// One value. Members of an object are `items` under the names in `keys`.
struct Json {
    enum class Type : uint8_t { null, boolean, number, text, list, object };
    Type type = Type::null;
    bool flag = false;
    double number = 0.0;
    std::string text;
    std::vector<std::string> keys;
    std::vector<Json> items;

    /// The member of this name, or nullptr.
    const Json* find(const char* key) const {
        for (size_t k = keys.size(); k-- > 0;) {
            if (keys[k] == key) return &items[k];
        }
        return nullptr;
    }
    bool truth(const char* key) const {
        const Json* value = find(key);
        return value && value->type == Type::boolean && value->flag;
    }
    std::string string(const char* key) const {
        const Json* value = find(key);
        return value && value->type == Type::text ? value->text : std::string();
    }
};

/// Reads one value from UTF-8 that was checked before.
class JsonParser {
public:
    JsonParser(const uint8_t* text, size_t size) : at_(text), end_(text + size) {}

    bool parse(Json& value) {
        value = Json();
        return read(value, 0) && (space(), at_ == end_);
    }

private:
    static constexpr int max_depth = 32;

    void space() {
        while (at_ != end_ && (*at_ == ' ' || *at_ == '\t' || *at_ == '\n' || *at_ == '\r')) ++at_;
    }
    bool is(char wanted) {
        if (at_ == end_ || *at_ != static_cast<uint8_t>(wanted)) return false;
        ++at_;
        return true;
    }
    bool word(const char* wanted) {
        for (; *wanted; ++wanted) {
            if (!is(*wanted)) return false;
        }
        return true;
    }
    bool read(Json& value, int depth) {
        space();
        if (at_ == end_ || depth > max_depth) return false;
        switch (*at_) {
            case '{': return members(value, depth, true);
            case '[': return members(value, depth, false);
            case '"': value.type = Json::Type::text; return text(value.text);
            case 't': value.type = Json::Type::boolean; value.flag = true; return word("true");
            case 'f': value.type = Json::Type::boolean; return word("false");
            case 'n': return word("null");
            default: return number(value);
        }
    }
    bool members(Json& value, int depth, bool object) {
        const char close = object ? '}' : ']';
        value.type = object ? Json::Type::object : Json::Type::list;
        ++at_;
        space();
        if (is(close)) return true;
        do {
            space();
            if (object) {
                value.keys.emplace_back();
                if (!text(value.keys.back()) || (space(), !is(':'))) return false;
            }
            value.items.emplace_back();
            if (!read(value.items.back(), depth + 1)) return false;
            space();
        } while (is(','));
        return is(close);
    }
    bool digits(double& value, int& count) {
        for (count = 0; at_ != end_ && *at_ >= '0' && *at_ <= '9'; ++count) value = 10.0 * value + (*at_++ - '0');
        return count > 0;
    }
    bool number(Json& value) {
        value.type = Json::Type::number;
        const bool negative = is('-');
        int count = 0;
        double mantissa = 0.0, exponent = 0.0, shift = 0.0;
        if (!digits(mantissa, count)) return false;
        if (is('.')) {
            if (!digits(mantissa, count)) return false;
            shift = count;
        }
        if (is('e') || is('E')) {
            const bool minus = is('-');
            if (!minus) is('+');
            if (!digits(exponent, count)) return false;
            if (minus) exponent = -exponent;
        }
        value.number = (negative ? -mantissa : mantissa) * std::pow(10.0, exponent - shift);
        return true;
    }
    bool hex4(uint32_t& code) {
        code = 0;
        for (int k = 0; k < 4; ++k) {
            if (at_ == end_) return false;
            const uint8_t c = *at_++;
            const uint32_t lower = c | 0x20u;
            if (c >= '0' && c <= '9') code = 16 * code + (c - '0');
            else if (lower >= 'a' && lower <= 'f') code = 16 * code + (lower - 'a' + 10);
            else return false;
        }
        return true;
    }
    static void append(std::string& to, uint32_t code) {
        const auto put = [&to](uint32_t byte) { to.push_back(static_cast<char>(byte)); };
        if (code < 0x80) return put(code);
        if (code < 0x800) put(0xC0 | (code >> 6));
        else if (code < 0x10000) put(0xE0 | (code >> 12)), put(0x80 | ((code >> 6) & 0x3F));
        else put(0xF0 | (code >> 18)), put(0x80 | ((code >> 12) & 0x3F)), put(0x80 | ((code >> 6) & 0x3F));
        put(0x80 | (code & 0x3F));
    }
    bool escape(std::string& to) {
        if (at_ == end_) return false;
        static constexpr char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
        const char name = static_cast<char>(*at_++);
        for (size_t k = 0; names[k]; ++k) {
            if (names[k] == name) return to.push_back(values[k]), true;
        }
        uint32_t code = 0, low = 0;
        if (name != 'u' || !hex4(code) || (code >= 0xDC00 && code < 0xE000)) return false;
        if (code >= 0xD800 && code < 0xDC00) {
            if (!is('\\') || !is('u') || !hex4(low) || low < 0xDC00 || low >= 0xE000) return false;
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        }
        return append(to, code), true;
    }
    bool text(std::string& to) {
        to.clear();
        if (!is('"')) return false;
        while (at_ != end_) {
            const uint8_t c = *at_++;
            if (c == '"') return true;
            if (c < 0x20 || (c == '\\' && !escape(to))) return false;
            if (c != '\\') to.push_back(static_cast<char>(c));
        }
        return false;
    }

    const uint8_t* at_;
    const uint8_t* end_;
};

}  // namespace mien
