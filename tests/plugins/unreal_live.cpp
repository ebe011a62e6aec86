// The Unreal plugin's session on a plain socket: connects to PORT until it is killed, prints its status and the first head of each topology.
// unreal_live PORT [TOKEN]
#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "MienSession.h"

namespace {

double now_s() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

template <class T>
void print(const char* name, const std::vector<T>& values) {
    std::printf(" %s=", name);
    const auto* bytes = reinterpret_cast<const uint8_t*>(values.data());
    for (size_t k = 0; k < values.size() * sizeof(T); ++k) std::printf("%02x", bytes[k]);
}

std::string said;
void say(const mien::Session& session) {
    if (session.status() == said) return;
    said = session.status();
    std::printf("status %s\n", said.c_str());
    std::fflush(stdout);
}

mien::Topology topology;
bool fresh = false;
void keep(mien::Message& message) {
    if (message.kind == mien::Kind::topology) {
        std::swap(topology, message.topology);
        fresh = true;
    } else if (fresh) {
        fresh = false;
        for (char& c : topology.name) c = c == ' ' ? '_' : c;
        std::printf("head %s", topology.name.c_str());
        print("vertices", message.frame.positions), print("normals", message.frame.normals);
        print("triangles", topology.triangles), print("source", topology.source);
        std::printf(" jaw=%g\n", message.frame.weights.empty() ? 0.0 : static_cast<double>(message.frame.weights[0]));
        std::fflush(stdout);
    }
}

void talk(mien::Session& session, int line) {
    const std::vector<uint8_t> request = session.connected(now_s());
    if (send(line, request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size())) return session.hung_up();
    mien::Message message;
    std::vector<uint8_t> bytes(1 << 18);
    while (true) {
        say(session);
        pollfd waiting = {line, POLLIN, 0};
        if (poll(&waiting, 1, 100) <= 0) {
            if (session.silent(now_s())) return;
            continue;
        }
        const ssize_t count = recv(line, bytes.data(), bytes.size(), 0);
        if (count <= 0) return session.hung_up();
        if (!session.received(bytes.data(), static_cast<size_t>(count), now_s(), message, keep)) return;
    }
}

}  // namespace

int main(int count, char** words) {
    const auto port = static_cast<uint16_t>(std::atoi(words[1]));
    mien::Session session("unreal", count > 2 ? words[2] : "", true);
    while (true) {
        sockaddr_in address = {};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        const int line = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(line, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) talk(session, line);
        else session.nobody("127.0.0.1:" + std::to_string(port));
        close(line);
        say(session);
        std::this_thread::sleep_for(std::chrono::duration<double>(session.pause_s()));
    }
}
