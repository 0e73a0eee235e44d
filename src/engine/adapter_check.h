// Looks at the header of a LoRA adapter before libllama does: what libllama would take on trust, and say less
// clearly.
#pragma once

#include <cstdint>
#include <string>

#include "base/error.h"

namespace syncyte {

// What an adapter must fit.
struct AdapterBase {
    std::string architecture;
    std::int64_t experts = 0;  // 0: not a mixture of experts
};

// `path` is sound for check_gguf(). kModel: not a LoRA adapter, or not one for such a model. Whether its
// matrices have the shapes of the model's is left to libllama. Any thread.
Result<void> check_adapter(const std::string& path, const AdapterBase& base);

}  // namespace syncyte
