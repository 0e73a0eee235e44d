// Keeps libllama and ggml from printing, and from ending the process where that can be avoided.
#pragma once

#include <stdexcept>
#include <string>

namespace syncyte {

// Thrown out of ggml's abort hook, through libllama's frames, and caught by the guarded call around it.
class GgmlAbort : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// While one of these lives on a thread, an abort() of ggml on that thread becomes a GgmlAbort, and error
// messages of libllama are collected instead of dropped. An abort on one of ggml's worker threads, or in
// code that uses the same libggml outside a guard, still ends the process: unwinding there is impossible.
// Nests. The first one made in the process installs the hooks.
class LlamaGuard {
  public:
    LlamaGuard();
    ~LlamaGuard();
    LlamaGuard(const LlamaGuard&) = delete;
    LlamaGuard& operator=(const LlamaGuard&) = delete;

    // The error messages so far, joined, without line ends and function names; at most a few hundred bytes.
    [[nodiscard]] static std::string messages();
};

}  // namespace syncyte
