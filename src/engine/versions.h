// Which libraries do the computing.
#pragma once

#include <string>

namespace syncyte {

struct EngineVersions {
    std::string libllama;        // "0.7.0", as the loaded library says
    std::string libllama_build;  // upstream build number this was compiled against, "11669"; may be empty
    std::string ggml;            // "0.27.0"
    std::string system;          // instruction sets in use: "CPU : SSE3 = 1 | ..."
    std::string attention;       // "ggml", or the vector instructions that the project's own needs
};

EngineVersions engine_versions();

}  // namespace syncyte
