#include "engine/llama_adapter.h"

#include <atomic>
#include <utility>

#include "engine/llama_model.h"

namespace syncyte {

namespace {

std::atomic<std::size_t> open_count{0};

}  // namespace

// Nobody has one of them any more: each keeps the model alive.
LlamaAdapters::~LlamaAdapters() { free_dropped(); }

llama_adapter_lora* LlamaAdapters::load(llama_model* model, const std::string& path) {
    const std::unique_lock alone(computing);
    free_dropped();
    llama_adapter_lora* made = llama_adapter_lora_init(model, path.c_str());
    if (made != nullptr) ++open_count;
    return made;
}

// Noted first, then tried: whoever computes meanwhile finds it by tidy() afterwards.
void LlamaAdapters::drop(llama_adapter_lora* adapter) {
    {
        const std::scoped_lock lock(mutex_);
        dropped_.push_back(adapter);
    }
    tidy();
}

void LlamaAdapters::tidy() {
    {
        const std::scoped_lock lock(mutex_);
        if (dropped_.empty()) return;
    }
    const std::unique_lock alone(computing, std::try_to_lock);
    if (alone) free_dropped();
}

void LlamaAdapters::free_dropped() {
    std::vector<llama_adapter_lora*> dropped;
    {
        const std::scoped_lock lock(mutex_);
        std::swap(dropped, dropped_);
    }
    for (llama_adapter_lora* adapter : dropped) llama_adapter_lora_free(adapter);
    open_count -= dropped.size();
}

std::size_t open_adapters() { return open_count.load(); }

}  // namespace syncyte
