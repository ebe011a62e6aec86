// JSON as the gateway sends it (hello, health, names of a topology), checked strictly. C++17, no engine, no exceptions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace mien {

/// The members of a JSON object that hold text, a list of text or a truth value; what else stands in it is checked and skipped.
struct Json {
    struct Member {
        std::string name;
        char type = 0;                   ///< first character of the value
        bool all_text = true;            ///< of a list
        std::vector<std::string> texts;  ///< of text (one) and of a list
    };
    std::vector<Member> members;

    const Member* find(const char* name) const {
        const Member* found = nullptr;
        for (const Member& member : members) found = member.name == name ? &member : found;
        return found;
    }
    bool truth(const char* name) const { return find(name) && find(name)->type == 't'; }
    std::string string(const char* name) const { return find(name) && find(name)->type == '"' ? find(name)->texts[0] : std::string(); }
};

/// Whether bytes are UTF-8: no overlong forms, no surrogates, nothing beyond U+10FFFF.
inline bool valid_utf8(const uint8_t* text, size_t size) {
    for (size_t at = 0; at < size;) {
        const uint8_t first = text[at++];
        if (first < 0x80) continue;
        if (first < 0xC2 || first > 0xF4) return false;
        uint8_t low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80, high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
        for (int more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1; more > 0; --more, low = 0x80, high = 0xBF) {
            if (at >= size || text[at] < low || text[at] > high) return false;
            ++at;
        }
    }
    return true;
}

/// Reads an object from UTF-8 that was checked before.
class JsonParser {
public:
    JsonParser(const uint8_t* text, size_t size) : at_(text), end_(text + size) {}

    bool parse(Json& to) {
        to.members.clear();
        return next() == '{' && value(&to, nullptr, 0) && next() == 0 && at_ == end_;
    }

private:
    /// The character after white space, 0 at the end.
    char next() {
        while (at_ != end_ && (*at_ == ' ' || *at_ == '\t' || *at_ == '\n' || *at_ == '\r')) ++at_;
        return at_ == end_ ? '\0' : static_cast<char>(*at_);
    }
    bool is(char wanted) { return at_ != end_ && *at_ == static_cast<uint8_t>(wanted) && ++at_; }
    bool word(const char* wanted) {
        while (*wanted && is(*wanted)) ++wanted;
        return !*wanted;
    }
    /// Reads one value, 32 deep at most; keeps the members of `whole`, an object, and the text of `member`.
    bool value(Json* whole, Json::Member* member, int depth) {
        const char type = next();
        const char close = type == '{' ? '}' : ']';
        if (depth > 32) return false;
        if (member) member->type = type;
        if (member && type == '"') return text(member->texts.emplace_back());
        if (type == 't' || type == 'f' || type == 'n') return word(type == 't' ? "true" : type == 'f' ? "false" : "null");
        if (type != '{' && type != '[') return number();
        ++at_;
        if (next() == close) return is(close);
        do {
            Json::Member one;
            if (type == '{' && (next() != '"' || !text(one.name) || next() != ':' || !is(':'))) return false;
            if (!value(nullptr, &one, depth + 1)) return false;
            if (member && type == '[') {
                member->all_text = member->all_text && one.type == '"';
                member->texts.insert(member->texts.end(), one.texts.begin(), one.texts.end());
            }
            if (whole) whole->members.push_back(one);
        } while (next() == ',' && is(','));
        return is(close);
    }
    bool digits() {
        const uint8_t* begin = at_;
        while (at_ != end_ && *at_ >= '0' && *at_ <= '9') ++at_;
        return at_ != begin;
    }
    bool number() {
        return (is('-'), digits()) && (!is('.') || digits()) && (!(is('e') || is('E')) || ((is('-') || is('+')), digits()));
    }
    bool hex4(uint32_t& code) {
        code = 0;
        for (int k = 0; k < 4; ++k, ++at_) {
            const uint32_t c = at_ == end_ ? 0u : *at_, lower = c | 0x20u;
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
        static constexpr char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
        for (size_t k = 0; names[k]; ++k) {
            if (is(names[k])) return to.push_back(values[k]), true;
        }
        uint32_t code = 0, low = 0;
        if (!is('u') || !hex4(code) || (code >= 0xDC00 && code < 0xE000)) return false;
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

    const uint8_t *at_, *end_;
};

}  // namespace mien
