#include "engine/versions.h"

#include <ggml.h>
#include <llama.h>

#include "engine/llama_attention.h"
#include "engine/llama_guard.h"

namespace syncyte {

EngineVersions engine_versions() {
    const LlamaGuard guard;  // loads the backends, which know the instruction sets
    return {.libllama = llama_version(),
            .libllama_build = SYNCYTE_LLAMA_BUILD,
            .ggml = ggml_version(),
            .system = llama_print_system_info(),
            .attention = LlamaAttention::available() ? attention_kernels().front().name : "ggml"};
}

}  // namespace syncyte
