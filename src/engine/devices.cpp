#include "engine/devices.h"

#include <chrono>
#include <exception>
#include <utility>

#include "base/call_within.h"
#include "engine/endpoint.h"
#include "engine/llama_guard.h"

namespace syncyte {

namespace {

constexpr std::chrono::seconds kConnectLimit{3};
constexpr std::chrono::seconds kAnswerLimit{10};

bool is_accelerator(ggml_backend_dev_t device) {
    return ggml_backend_dev_type(device) != GGML_BACKEND_DEVICE_TYPE_CPU;
}

Result<ggml_backend_dev_t> device_named(const std::string& name) {
    std::string known;
    for (std::size_t i = 0; i < ggml_backend_dev_count(); ++i) {
        ggml_backend_dev_t device = ggml_backend_dev_get(i);
        if (!is_accelerator(device)) continue;
        if (name == ggml_backend_dev_name(device)) return device;
        known.append(known.empty() ? "" : ", ").append(ggml_backend_dev_name(device));
    }
    return failure(ErrorCode::kInvalidArgument,
                   "there is no device \"" + name + "\" (" +
                       (known.empty() ? "ggml finds no accelerator here; an empty list means the CPU alone"
                                      : "there are: " + known) +
                       ")");
}

using AddServer = ggml_backend_reg_t (*)(const char*);

Result<AddServer> rpc_backend() {
    ggml_backend_reg_t backend = ggml_backend_reg_by_name("RPC");
    void* found = backend == nullptr
                      ? nullptr
                      : ggml_backend_reg_get_proc_address(backend, "ggml_backend_rpc_add_server");
    if (found == nullptr) {
        return failure(ErrorCode::kModel,
                       "this libggml has no RPC backend; on Debian it is in libggml0-backend-rpc");
    }
    return reinterpret_cast<AddServer>(found);
}

// ggml waits for the server's answer without end.
Result<ggml_backend_reg_t> add_server(AddServer add, const std::string& endpoint) {
    const auto unusable = [](const std::string& server, const std::string& why) {
        return failure(ErrorCode::kModel, "the RPC server at " + server + " is not usable: " + why);
    };
    auto added = call_within(Clock::now() + kAnswerLimit, [=]() -> Result<ggml_backend_reg_t> {
        const LlamaGuard guard;
        try {
            ggml_backend_reg_t server = add(endpoint.c_str());
            if (server == nullptr) return unusable(endpoint, LlamaGuard::messages());
            return server;
        } catch (const std::exception& caught) {
            return unusable(endpoint, caught.what());
        }
    });
    if (added) return *std::move(added);
    return failure(ErrorCode::kModel, "the server at " + endpoint + " does not answer as an RPC server does");
}

}  // namespace

Result<std::vector<ggml_backend_dev_t>> find_devices(const std::optional<std::vector<std::string>>& names,
                                                     const std::vector<std::string>& rpc) {
    std::vector<ggml_backend_dev_t> devices;
    if (!rpc.empty()) {
        const Result<AddServer> add = rpc_backend();
        if (!add) return std::unexpected(add.error());
        for (const std::string& endpoint : rpc) {
            if (Result<void> there = check_reachable(endpoint, kConnectLimit); !there) {
                return std::unexpected(std::move(there.error()));
            }
            const Result<ggml_backend_reg_t> server = add_server(*add, endpoint);
            if (!server) return std::unexpected(server.error());
            for (std::size_t i = 0; i < ggml_backend_reg_dev_count(*server); ++i) {
                devices.push_back(ggml_backend_reg_dev_get(*server, i));
            }
        }
    }
    if (names) {
        for (const std::string& name : *names) {
            const Result<ggml_backend_dev_t> device = device_named(name);
            if (!device) return std::unexpected(device.error());
            devices.push_back(*device);
        }
    } else {
        for (std::size_t i = 0; i < ggml_backend_dev_count(); ++i) {
            ggml_backend_dev_t device = ggml_backend_dev_get(i);
            if (ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_GPU) devices.push_back(device);
        }
    }
    devices.push_back(nullptr);
    return devices;
}

}  // namespace syncyte
