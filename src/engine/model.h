// What the scheduler needs of a language model: weights with a vocabulary, and a context that computes
// one batch step at a time. libllama stands behind it; tests put a deterministic fake there.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "engine/context_options.h"

namespace syncyte {

using Token = std::int32_t;
using Position = std::int32_t;    // place of a token in its sequence, from 0
using SequenceId = std::int32_t;  // 0 .. max_sequences - 1

// Facts about a model file. Strings are UTF-8; empty where the file does not say.
struct ModelInfo {
    std::string name;
    std::string architecture;
    std::string description;   // as libllama words it: "llama 1B Q4_0"
    std::string quantization;  // "Q4_0", "F32", ...
    std::string chat_template;
    std::string rerank_template;  // of a query and a document, where the file has one
    std::string bos_text;
    std::string eos_text;
    std::uint64_t parameters = 0;
    std::uint64_t bytes = 0;  // of all tensors
    std::int32_t vocabulary_size = 0;
    std::int32_t embedding_length = 0;
    std::int32_t embedding_output = 0;  // numbers of a text's vector
    std::int32_t rank_outputs = 0;      // scores of a text, of a model that ranks
    std::int32_t layers = 0;
    std::int32_t heads = 0;
    std::int32_t kv_heads = 0;
    std::int32_t trained_context = 0;  // tokens
    bool adds_bos = false;
    bool causal = true;                // tokens see only what came before
    bool generates = true;             // false: it is for embedding or ranking texts only
    Pooling pooling = Pooling::kNone;  // that the file asks for
};

// One token of a batch step.
struct BatchRow {
    Token token;
    Position position;
    SequenceId sequence;
    bool output;  // its logits will be asked for
};

class Model;

// A low-rank change of a model's weights (LoRA), for requests that ask for it; the weights themselves stay as
// they are. Read-only: any thread may hold it and drop it.
class Adapter {
  public:
    Adapter() = default;
    Adapter(const Adapter&) = delete;
    Adapter& operator=(const Adapter&) = delete;
    virtual ~Adapter() = default;

    // Which model it was loaded for.
    [[nodiscard]] virtual const Model* model() const = 0;
    // Never used twice in this process, so that what was computed with one is not taken for another's.
    [[nodiscard]] std::uint64_t number() const { return number_; }

  private:
    static std::uint64_t next_number() {
        static std::atomic<std::uint64_t> last{0};
        return last.fetch_add(1, std::memory_order_relaxed) + 1;
    }

    const std::uint64_t number_ = next_number();
};

// What a request computes with: the model alone, or with an adapter that counts `scale` times.
struct AppliedAdapter {
    std::shared_ptr<const Adapter> weights;  // null: the model alone
    float scale = 0;

    friend bool operator==(const AppliedAdapter&, const AppliedAdapter&) = default;
};

// From `rows` rows on, a step's attention goes in tiles of so many rows, each over all cells that any row of
// the tile sees; in smaller steps each row looks at its own cells only.
struct AttentionTiles {
    std::size_t rows = 0;  // 0: there are none
    std::size_t gain = 1;  // a row in a tile is so many times as quick with each cell as a row by itself
    std::size_t step_cells = 0;  // a further step takes as long as so many cells for rows of tiles
};

// The KV cache and the compute state of many sequences. Used by one thread at a time, except for interrupt().
class Context {
  public:
    virtual ~Context() = default;

    // Computes at most rows_per_step rows in one pass. Positions of a sequence must go on where it ended.
    // kFull: no room in the cache, nothing was computed. kCancelled: interrupt() was called. kModel: the
    // pass failed. After the last two the context is fit only for destruction.
    virtual Result<void> step(std::span<const BatchRow> rows) = 0;

    // The next steps compute with this; it is kept alive until another is applied. Switching costs as much as
    // setting up the computation anew: milliseconds.
    virtual void apply(const AppliedAdapter& adapter) = 0;

    // The logits of `row` of the last step, which must have had `output` set. One float per token of the
    // vocabulary; the caller may overwrite them. Valid until the next step.
    virtual std::span<float> logits(std::size_t row) = 0;

    // The vector, or the scores, of those rows of the last step that were of `sequence`: in a context with a
    // pooling, which gives no logits. Valid until the next step.
    virtual std::span<const float> embedding(SequenceId sequence) = 0;

    // Lets go of the cells of `sequence` from position `from` on.
    virtual void erase(SequenceId sequence, Position from) = 0;
    // `to`, empty before, becomes the first `length` tokens of `from`: shared cells, nothing is copied.
    virtual void fork(SequenceId from, SequenceId to, Position length) = 0;
    // Moves the cells of `sequence` from position `from` on to places beside each other, where no other
    // sequence may share them. Sequences that decode together take cells in turn, and attention over cells
    // that lie far apart waits for memory. False, and nothing is changed, while there is no such place.
    virtual bool gather(SequenceId sequence, Position from) = 0;
    // What is computed of `sequence` from position `from` on, for restore() in a context of the same model
    // and options. Costs a copy, milliseconds for hundreds of tokens. Empty: it could not be saved. Where
    // fork() does not work only all of it can be.
    [[nodiscard]] virtual std::vector<std::uint8_t> save(SequenceId sequence, Position from) = 0;
    // `sequence`, which holds its first `from` tokens, becomes what save() saw. False, and it is what it was,
    // while there are no cells beside each other for the rest.
    virtual bool restore(SequenceId sequence, Position from, std::span<const std::uint8_t> state) = 0;
    // `from` goes on as `to`, which was empty. In a separate layout that copies a whole part of the cache.
    virtual void rename(SequenceId from, SequenceId to) = 0;
    // Whether fork() and gather() work: not so with a recurrent state, nor in a separate layout.
    [[nodiscard]] virtual bool can_fork() const = 0;
    // Whether erase() can take a tail only: not so with a recurrent state.
    [[nodiscard]] virtual bool can_rewind() const = 0;
    // Whether only sequences whose ids follow each other are computed in one pass: with a gap between them a
    // step takes as many passes as there are runs of ids.
    [[nodiscard]] virtual bool wants_neighbours() const = 0;

    [[nodiscard]] virtual AttentionTiles attention_tiles() const = 0;

    // Threads of the next steps, at most: a context may take fewer while others need the cores.
    virtual void set_threads(std::int32_t most) = 0;
    // Threads of the last step.
    [[nodiscard]] virtual std::int32_t threads() const = 0;

    // Any thread, once: the running step, and every later one, returns kCancelled soon.
    virtual void interrupt() = 0;

    // Room in tokens as allocated: at least what was asked for.
    [[nodiscard]] virtual std::int32_t cells() const = 0;
};

enum class AddSpecial : bool { kNo, kYes };    // begin- and end-of-sequence tokens as the model wants them
enum class ParseSpecial : bool { kNo, kYes };  // "<|im_end|>" in the text becomes that control token

struct ChatMessage {
    std::string role;
    std::string content;
};

// Read-only after loading: any thread may call anything.
class Model {
  public:
    virtual ~Model() = default;

    [[nodiscard]] virtual const ModelInfo& info() const = 0;
    virtual Result<std::vector<Token>> tokenize(std::string_view text, AddSpecial add,
                                                ParseSpecial parse) const = 0;
    // A query and a document in one text, as the vocabulary's marks separate them.
    virtual Result<std::vector<Token>> tokenize_pair(std::string_view query,
                                                     std::string_view document) const = 0;
    // Raw bytes: a token may be part of a character. Control tokens show nothing, or with
    // ParseSpecial::kYes their text. kInvalidArgument for a token outside the vocabulary.
    virtual Result<void> append_piece(Token token, ParseSpecial special, std::string& bytes) const = 0;
    // The text of all tokens, begin-of-sequence and its kind left out. Bytes may be incomplete UTF-8.
    virtual Result<std::string> detokenize(std::span<const Token> tokens) const = 0;
    // Tokens that end a generation. Few.
    [[nodiscard]] virtual std::span<const Token> end_tokens() const = 0;
    // Texts of the control tokens.
    [[nodiscard]] virtual const std::vector<std::string>& control_texts() const = 0;
    // libllama's own small set of chat templates, by pattern: kInvalidArgument for one it does not know.
    virtual Result<std::string> apply_template(const std::string& chat_template,
                                               std::span<const ChatMessage> messages,
                                               bool add_generation_prompt) const = 0;
    // The context refers to the model, which must outlive it.
    [[nodiscard]] virtual Result<std::unique_ptr<Context>> make_context(
        const ContextOptions& options) const = 0;
    // Reads a LoRA adapter from a GGUF file; it keeps the model alive. kNotFound, kIo: cannot be opened.
    // kModel: not an adapter, or not one for this model; the message says why.
    [[nodiscard]] virtual Result<std::shared_ptr<const Adapter>> load_adapter(
        const std::string& path) const = 0;
};

}  // namespace syncyte
