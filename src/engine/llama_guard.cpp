#include "engine/llama_guard.h"

#include <ggml-backend.h>
#include <llama.h>

#include <cstddef>
#include <mutex>
#include <string_view>

namespace syncyte {

namespace {

constexpr std::size_t kMostBytes = 600;

thread_local int depth = 0;
thread_local std::string collected;       // of the outermost guard on this thread
thread_local bool line_is_error = false;  // GGML_LOG_LEVEL_CONT goes on with the line before

void on_log(ggml_log_level level, const char* text, void*) noexcept {
    if (level != GGML_LOG_LEVEL_CONT) line_is_error = level == GGML_LOG_LEVEL_ERROR;
    if (depth == 0 || !line_is_error || collected.size() >= kMostBytes) return;
    std::string_view line(text);
    while (!line.empty() && (line.back() == '\n' || line.back() == ' ')) line.remove_suffix(1);
    // "llama_model_load: error loading model: ..." names functions that mean nothing to the reader.
    const std::size_t colon = line.find(": ");
    if (colon != std::string_view::npos && line.substr(0, colon).find(' ') == std::string_view::npos) {
        line.remove_prefix(colon + 2);
    }
    if (line.empty()) return;
    if (!collected.empty()) collected += "; ";
    collected += line.substr(0, kMostBytes);
}

void on_abort(const char* message) {
    if (depth > 0) throw GgmlAbort(message);
}

void install() {
    llama_log_set(on_log, nullptr);
    ggml_set_abort_callback(on_abort);
    ggml_backend_load_all();
    llama_backend_init();
}

}  // namespace

LlamaGuard::LlamaGuard() {
    static std::once_flag once;
    std::call_once(once, install);
    if (depth++ == 0) collected.clear();
}

LlamaGuard::~LlamaGuard() { --depth; }

std::string LlamaGuard::messages() { return collected; }

}  // namespace syncyte
