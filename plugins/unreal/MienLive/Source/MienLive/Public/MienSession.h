// What a client does with what the gateway says: what to ask for, when to hang up, how long to rest, what to tell people.
// C++17, no engine, no exceptions, no socket and no clock: whoever owns those calls it (MienClient, tests).
#pragma once

#include "MienRecords.h"

namespace mien {

/// For each connection: connected(), received() until it says false, hung_up() if the other end did; then rest for pause_s().
class Session {
public:
    Session(const std::string& target, const std::string& token, bool mesh) : target_(target), token_(token), mesh_(mesh) {}

    /// A connection stands. Returns what to send.
    std::vector<uint8_t> connected(double now_s) {
        reader_.reset();
        answered_ = false;
        heard_s_ = now_s;
        pause_s_ = retry_s;
        status_ = "connected; waiting for a head";
        std::string asked = "{\"target\":" + quoted(target_) + ",\"split\":true,\"normals\":true";
        if (!mesh_) asked += ",\"mesh\":false";
        if (!token_.empty()) asked += ",\"token\":" + quoted(token_);
        return encode_request(asked + "}");
    }

    /// No connection could be made.
    void nobody(const std::string& address) {
        pause_s_ = retry_s;
        status_ = "nobody answers at " + address + "; is `mien serve` running?";
    }

    /// Takes bytes as they came; `keep` is called with each topology, frame and record of weights. False: hang up.
    template <class Keep>
    bool received(const uint8_t* data, size_t size, double now_s, Message& message, Keep&& keep) {
        heard_s_ = now_s;
        reader_.feed(data, size);
        Step step;
        while ((step = reader_.next(message)) == Step::message) {
            if (!accept(message)) return false;
            if (answered_ && (message.kind == Kind::topology || message.kind == Kind::frame || message.kind == Kind::weights)) keep(message);
        }
        return step != Step::failed || leave(reader_.error(), refused_s);
    }

    /// Whether nothing came for so long that the connection is dead. True: hang up.
    bool silent(double now_s) {
        return now_s - heard_s_ > silence_s && !leave("the server has fallen silent; connecting again", retry_s);
    }

    /// The server has ended the connection.
    void hung_up() { leave(reader_.close() ? "the server hung up; connecting again" : reader_.error(), retry_s); }

    /// One line for people: what is going on, and what to do if nothing moves.
    const std::string& status() const { return status_; }
    /// Time to wait before the next connection.
    double pause_s() const { return pause_s_; }

private:
    static constexpr double retry_s = 0.5;
    static constexpr double refused_s = 3.0;  // a server that does not speak our language will not learn at once
    static constexpr double silence_s = 5.0;  // health comes each second

    bool leave(const std::string& why, double pause_s) {
        status_ = why;
        pause_s_ = pause_s;
        return false;
    }
    bool accept(const Message& message) {
        if (message.kind == Kind::end) return leave("the server says: " + message.text + "; connecting again", retry_s);
        if (message.kind == Kind::hello) {
            if (message.about.truth("token") && token_.empty()) return leave("the server asks for a token: that of its serve.token_file", refused_s);
            answered_ = message.about.string("target") == target_;  // else what follows is in a form that was not asked for
        }
        if (answered_ && message.kind == Kind::topology)
            status_ = "live: " + (message.topology.name.empty() ? "head" : message.topology.name) + ", " + std::to_string(message.topology.vertices) + " vertices";
        return true;
    }
    static std::string quoted(const std::string& text) {
        std::string to = "\"";
        for (const char c : text) {
            if (c == '"' || c == '\\') to += '\\';
            to += c;
        }
        return to + '"';
    }

    std::string target_, token_;
    bool mesh_, answered_ = false;
    Reader reader_;
    double heard_s_ = 0.0, pause_s_ = retry_s;
    std::string status_ = "not connected";
};

}  // namespace mien
