// A model without weights: its tokens are bytes, and what comes next is a function of what is in the cache.
#pragma once

#include <algorithm>
#include <atomic>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "engine/model.h"

namespace syncyte {

inline constexpr Token kFakeEnd = 256;
inline constexpr Token kFakeBroken = 257;  // has no piece
inline constexpr std::int32_t kFakeVocabulary = 258;

// What the test sees of a context, and how it makes steps fail. Written by the thread that steps.
struct FakeCache {
    std::int32_t cells = 1024;
    std::map<SequenceId, std::vector<Token>> sequences;
    std::map<SequenceId, AppliedAdapter> computed_with;
    std::vector<AppliedAdapter> applied;                      // of each step
    std::map<SequenceId, std::vector<std::uint64_t>> places;  // cells of each token; shared after a fork
    std::vector<std::vector<BatchRow>> steps;
    std::int32_t threads = 0;
    bool can_fork = true;
    AttentionTiles tiles;
    bool separate = false;  // each sequence has a part of its own: nothing is shared
    int passes = 0;         // of the last step
    int renamed = 0;
    std::vector<std::pair<std::vector<Token>, AppliedAdapter>> saved;
    bool can_save = true;
    bool can_restore = true;
    int restored = 0;
    std::uint64_t next_place = 0;
    int gathered = 0;
    std::function<Result<void>()> before_step = [] { return Result<void>{}; };
    std::function<void(std::span<const BatchRow>)> while_computing = [](std::span<const BatchRow>) {};
    std::atomic<bool> interrupted{false};

    [[nodiscard]] std::int32_t used() const {
        std::set<std::uint64_t> distinct;
        for (const auto& [id, places_of] : places) distinct.insert(places_of.begin(), places_of.end());
        return static_cast<std::int32_t>(distinct.size());
    }
};

// The token that follows a sequence.
using FakeNext = std::function<Token(const std::vector<Token>& sequence)>;

// A letter that depends on every token of the sequence and its place.
inline Token hashed_letter(const std::vector<Token>& sequence) {
    std::uint64_t hash = 1469598103934665603ULL;
    for (const Token token : sequence) {
        hash = (hash ^ static_cast<std::uint64_t>(token)) * 1099511628211ULL;
    }
    return static_cast<Token>('a' + (hash >> 32) % 26);
}

// A token whose vector is none.
constexpr Token kNumberless = '?';

// The vector of a token at its place.
inline std::vector<float> fake_vector(Token token, Position position) {
    if (token == kNumberless) return {0, std::numeric_limits<float>::quiet_NaN()};
    return {static_cast<float>(token), static_cast<float>(position) + 1};
}

class FakeAdapter final : public Adapter {
  public:
    explicit FakeAdapter(const Model* model) : model_(model) {}
    [[nodiscard]] const Model* model() const override { return model_; }

  private:
    const Model* const model_;
};

// The letter that an adapter makes of another: 0 is the model alone.
inline Token adapted(Token token, int by) {
    if (by == 0 || token < 'a' || token > 'z') return token;
    return 'a' + (token - 'a' + by) % 26;
}

class FakeContext final : public Context {
  public:
    FakeContext(std::shared_ptr<FakeCache> cache, FakeNext next, std::int32_t rows_per_step,
                Pooling pooling = Pooling::kNone)
        : cache_(std::move(cache)),
          next_(std::move(next)),
          rows_per_step_(rows_per_step),
          pooling_(pooling) {}

    Result<void> step(std::span<const BatchRow> rows) override {
        check(!rows.empty() && std::cmp_less_equal(rows.size(), rows_per_step_), "rows within the limit");
        if (cache_->interrupted) return failure(ErrorCode::kCancelled);
        if (Result<void> can = cache_->before_step(); !can) return can;
        if (std::cmp_greater(static_cast<std::size_t>(cache_->used()) + rows.size(), cache_->cells)) {
            return failure(ErrorCode::kFull);
        }
        logits_.assign(rows.size(), {});
        vectors_.clear();
        pooled_.clear();
        for (std::size_t i = 0; i < rows.size(); ++i) {
            const BatchRow& row = rows[i];
            std::vector<Token>& sequence = cache_->sequences[row.sequence];
            if (sequence.empty()) cache_->computed_with[row.sequence] = applied_;
            check(cache_->computed_with[row.sequence] == applied_, "one adapter for all of a sequence");
            check(std::cmp_equal(sequence.size(), row.position), "a sequence goes on where it ended");
            sequence.push_back(row.token);
            cache_->places[row.sequence].push_back(cache_->next_place++);
            if (pooling_ != Pooling::kNone) pool(row);
            if (!row.output) continue;
            logits_[i].assign(kFakeVocabulary, 0.0F);
            const Token token = adapted(next_(sequence), static_cast<int>(applied_.scale));
            logits_[i][static_cast<std::size_t>(token)] = 10.0F;
        }
        std::set<SequenceId> ids;
        for (const BatchRow& row : rows) ids.insert(row.sequence);
        cache_->passes = 1;
        for (const SequenceId id : ids) cache_->passes += id != *ids.begin() && !ids.contains(id - 1) ? 1 : 0;
        cache_->while_computing(rows);
        cache_->steps.emplace_back(rows.begin(), rows.end());
        cache_->applied.push_back(applied_);
        return {};
    }

    void apply(const AppliedAdapter& adapter) override { applied_ = adapter; }

    std::span<float> logits(std::size_t row) override {
        check(row < logits_.size() && !logits_[row].empty(), "logits of an output row");
        return logits_[row];
    }

    // What fake_vector() says of the tokens of the last step, pooled.
    std::span<const float> embedding(SequenceId sequence) override {
        check(vectors_.contains(sequence), "a sequence that had rows");
        return vectors_[sequence];
    }

    void erase(SequenceId sequence, Position from) override {
        auto& tokens = cache_->sequences[sequence];
        auto& places = cache_->places[sequence];
        tokens.resize(std::min(tokens.size(), static_cast<std::size_t>(from)));
        places.resize(tokens.size());
        if (!tokens.empty()) return;
        cache_->sequences.erase(sequence);
        cache_->places.erase(sequence);
    }

    void fork(SequenceId from, SequenceId to, Position length) override {
        check(!cache_->sequences.contains(to), "a fork fills an empty sequence");
        const auto size = static_cast<std::size_t>(length);
        const auto& tokens = cache_->sequences[from];
        const auto& places = cache_->places[from];
        check(size <= tokens.size(), "a fork of what is there");
        cache_->sequences[to].assign(tokens.begin(), tokens.begin() + length);
        cache_->computed_with[to] = cache_->computed_with[from];
        cache_->places[to].assign(places.begin(), places.begin() + length);
    }

    bool gather(SequenceId sequence, Position from) override {
        auto& places = cache_->places[sequence];
        check(from >= 0 && std::cmp_less(from, places.size()), "cells that are there");
        const auto moved = static_cast<std::int32_t>(places.size()) - from;
        if (cache_->used() + moved > cache_->cells) return false;
        for (auto place = places.begin() + from; place != places.end(); ++place) {
            *place = cache_->next_place++;
        }
        ++cache_->gathered;
        return true;
    }

    std::vector<std::uint8_t> save(SequenceId sequence, Position from) override {
        check(cache_->sequences.contains(sequence), "a sequence that is there");
        const auto& tokens = cache_->sequences[sequence];
        check(from >= 0 && std::cmp_less(from, tokens.size()), "tokens that are there");
        check(from == 0 || can_fork(), "a part, of what can be shared");
        if (!cache_->can_save) return {};
        cache_->saved.emplace_back(std::vector(tokens.begin() + from, tokens.end()),
                                   cache_->computed_with[sequence]);
        return std::vector<std::uint8_t>(cache_->saved.size());  // its length is the number
    }

    bool restore(SequenceId sequence, Position from, std::span<const std::uint8_t> state) override {
        const auto held = cache_->sequences.find(sequence);
        const auto count = held == cache_->sequences.end() ? 0 : std::ssize(held->second);
        check(count == from, "what comes before the state, and no more");
        const auto& [tokens, adapter] = cache_->saved.at(state.size() - 1);
        if (!cache_->can_restore || cache_->used() + std::ssize(tokens) > cache_->cells) return false;
        if (from > 0) check(cache_->computed_with[sequence] == adapter, "one adapter for all of a sequence");
        cache_->sequences[sequence].append_range(tokens);
        cache_->computed_with[sequence] = adapter;
        for (std::size_t i = 0; i < tokens.size(); ++i) {
            cache_->places[sequence].push_back(cache_->next_place++);
        }
        ++cache_->restored;
        return true;
    }

    void rename(SequenceId from, SequenceId to) override {
        check(!cache_->sequences.contains(to), "an id that is free");
        cache_->sequences[to] = std::move(cache_->sequences.extract(from).mapped());
        cache_->places[to] = std::move(cache_->places.extract(from).mapped());
        cache_->computed_with[to] = cache_->computed_with[from];
        ++cache_->renamed;
    }

    [[nodiscard]] bool can_fork() const override { return cache_->can_fork && !cache_->separate; }
    [[nodiscard]] bool can_rewind() const override { return cache_->can_fork; }
    [[nodiscard]] bool wants_neighbours() const override { return cache_->separate; }
    [[nodiscard]] AttentionTiles attention_tiles() const override { return cache_->tiles; }
    void set_threads(std::int32_t threads) override { cache_->threads = threads; }
    [[nodiscard]] std::int32_t threads() const override { return cache_->threads; }
    void interrupt() override { cache_->interrupted = true; }
    [[nodiscard]] std::int32_t cells() const override { return cache_->cells; }

  private:
    void pool(const BatchRow& row) {
        const std::vector<float> own = fake_vector(row.token, row.position);
        std::vector<float>& vector = vectors_[row.sequence];
        const auto count = static_cast<float>(pooled_[row.sequence]++);
        if (count == 0 || pooling_ == Pooling::kLast) {
            vector = own;
        } else if (pooling_ == Pooling::kMean) {
            for (std::size_t i = 0; i < own.size(); ++i) {
                vector[i] = (vector[i] * count + own[i]) / (count + 1);
            }
        }
    }

    const std::shared_ptr<FakeCache> cache_;
    const FakeNext next_;
    const std::int32_t rows_per_step_;
    const Pooling pooling_;
    AppliedAdapter applied_;
    std::vector<std::vector<float>> logits_;
    std::map<SequenceId, std::vector<float>> vectors_;
    std::map<SequenceId, int> pooled_;  // rows of this step
};

class FakeModel final : public Model {
  public:
    explicit FakeModel(FakeNext next = hashed_letter) : next_(std::move(next)) {
        info_.vocabulary_size = kFakeVocabulary;
    }

    [[nodiscard]] const ModelInfo& info() const override { return info_; }

    Result<std::vector<Token>> tokenize(std::string_view text, AddSpecial, ParseSpecial) const override {
        std::vector<Token> tokens;
        for (const char byte : text) tokens.push_back(static_cast<unsigned char>(byte));
        return tokens;
    }

    Result<std::vector<Token>> tokenize_pair(std::string_view query,
                                             std::string_view document) const override {
        return tokenize(std::string(query) + "|" + std::string(document), AddSpecial::kNo, ParseSpecial::kNo);
    }

    Result<void> append_piece(Token token, ParseSpecial, std::string& bytes) const override {
        if (token == kFakeBroken) return failure(ErrorCode::kModel, "no piece");
        if (const auto piece = pieces_.find(token); piece != pieces_.end()) {
            bytes += piece->second;
        } else if (token < 256)
            bytes += static_cast<char>(token);
        return {};
    }

    Result<std::string> detokenize(std::span<const Token> tokens) const override {
        std::string bytes;
        for (const Token token : tokens) {
            if (auto added = append_piece(token, ParseSpecial::kNo, bytes); !added) {
                return std::unexpected(added.error());
            }
        }
        return bytes;
    }

    [[nodiscard]] std::span<const Token> end_tokens() const override { return {&end_, 1}; }
    [[nodiscard]] const std::vector<std::string>& control_texts() const override { return control_texts_; }
    Result<std::string> apply_template(const std::string&, std::span<const ChatMessage>,
                                       bool) const override {
        return failure(ErrorCode::kInvalidArgument);
    }

    [[nodiscard]] Result<std::unique_ptr<Context>> make_context(
        const ContextOptions& options) const override {
        auto cache = std::make_shared<FakeCache>();
        cache->cells = options.cells;
        if (Result<void> made = on_context_(options, *cache); !made) return std::unexpected(made.error());
        return std::make_unique<FakeContext>(std::move(cache), next_, options.rows_per_step, options.pooling);
    }

    [[nodiscard]] Result<std::shared_ptr<const Adapter>> load_adapter(const std::string&) const override {
        return std::make_shared<FakeAdapter>(this);
    }

    // The same, with a cache that the test keeps an eye on.
    [[nodiscard]] std::unique_ptr<Context> make_context(std::shared_ptr<FakeCache> cache,
                                                        std::int32_t rows_per_step) const {
        return std::make_unique<FakeContext>(std::move(cache), next_, rows_per_step);
    }

    // Another text than its byte.
    void set_piece(Token token, std::string text) { pieces_[token] = std::move(text); }
    // What the model says of itself.
    ModelInfo& facts() { return info_; }
    // Sees each context that the model is asked for, and its cache, and may refuse.
    using OnContext = std::function<Result<void>(const ContextOptions&, FakeCache&)>;
    void on_context(OnContext seen) { on_context_ = std::move(seen); }

  private:
    ModelInfo info_;
    OnContext on_context_ = [](const ContextOptions&, FakeCache&) { return Result<void>{}; };
    FakeNext next_;
    Token end_ = kFakeEnd;
    std::vector<std::string> control_texts_;
    std::map<Token, std::string> pieces_;
};

}  // namespace syncyte
