// The project's own attention in libllama's graphs. Private to the engine: includes ggml.h.
#pragma once

#include <ggml-backend.h>
#include <ggml.h>

#include "engine/attention.h"

namespace syncyte {

// libllama asks an evaluation callback about each node of a graph before it is computed. This one turns flash
// attention over half-precision keys and values in ordinary memory into a custom operation of ggml, which
// ggml's own threads then compute by engine/attention.h. What it does not know (attention sinks, ALiBi, soft
// capping, other types, accelerators) stays ggml's. Graphs that are used again stay as they are.
//
// One for each context, which it must outlive; used by the thread that computes.
class LlamaAttention {
  public:
    // Whether it does anything: the processor has vector instructions for it, on this machine it comes to the
    // same as ggml's own, there is no accelerator, and the environment variable SYNCYTE_ATTENTION is not
    // "ggml". Looked up once per process.
    [[nodiscard]] static bool available();

    // For llama_context_params.cb_eval, with this as its data. Never asks for a node's value.
    static bool evaluate(ggml_tensor* node, bool ask, void* self);

    // Whether all flash attention so far was this one's, and there was some.
    [[nodiscard]] bool computes_all() const { return taken_ && !left_; }

  private:
    void consider(ggml_tensor& node);

    AttentionTeam team_;
    bool taken_ = false;
    bool left_ = false;
};

}  // namespace syncyte
