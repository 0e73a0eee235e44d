// The real model: weights and vocabulary of a GGUF file, by libllama.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/model.h"

namespace syncyte {

// Where the weights go. What is left out is as libllama decides: all layers on the accelerators it finds.
struct LoadOptions {
    std::optional<std::int32_t> gpu_layers;           // how many layers leave the CPU; -1: all
    std::optional<std::vector<std::string>> devices;  // accelerators of this machine, by ggml's names
    std::vector<std::string> rpc;                     // "host:port" of servers of libggml's RPC backend

    friend bool operator==(const LoadOptions&, const LoadOptions&) = default;
};

// Checks and loads the file; takes as long as reading it. kNotFound, kIo: cannot be opened. kModel: not a
// usable model, or an RPC server that does not answer, and the message says why; the process goes on.
// kInvalidArgument: no such device. Any thread, several at once.
Result<std::shared_ptr<const Model>> load_llama_model(const std::string& path,
                                                      const LoadOptions& options = {});

// Adapters whose weights are in memory right now. For tests.
std::size_t open_adapters();

}  // namespace syncyte
