// A LoRA adapter in libllama. Private to the engine: includes llama.h.
#pragma once

#include <llama.h>

#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/model.h"

namespace syncyte {

// libllama lists a model's adapters in the model, and reads that list when it sets up a computation. So
// adapters come and go only while nothing computes: what computes holds `computing` shared, what changes the
// list holds it alone. Whoever drops an adapter does not wait for that.
class LlamaAdapters {
  public:
    LlamaAdapters() = default;
    LlamaAdapters(const LlamaAdapters&) = delete;
    LlamaAdapters& operator=(const LlamaAdapters&) = delete;
    ~LlamaAdapters();

    // Waits for the end of the running step. Null: the guard has messages.
    llama_adapter_lora* load(llama_model* model, const std::string& path);
    // Frees it now, or when nothing computes. Any thread.
    void drop(llama_adapter_lora* adapter);
    // Frees what was dropped meanwhile.
    void tidy();

    std::shared_mutex computing;

  private:
    void free_dropped();

    std::mutex mutex_;
    std::vector<llama_adapter_lora*> dropped_;
};

// Of `model`, which `owner` keeps alive and whose adapters `list` are.
class LlamaAdapter final : public Adapter {
  public:
    LlamaAdapter(llama_adapter_lora* weights, std::shared_ptr<const Model> owner, LlamaAdapters& list)
        : weights_(weights), owner_(std::move(owner)), list_(list) {}
    ~LlamaAdapter() override { list_.drop(weights_); }

    [[nodiscard]] const Model* model() const override { return owner_.get(); }
    [[nodiscard]] llama_adapter_lora* weights() const { return weights_; }

  private:
    llama_adapter_lora* const weights_;
    const std::shared_ptr<const Model> owner_;
    LlamaAdapters& list_;
};

}  // namespace syncyte
