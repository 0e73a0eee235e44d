// Sequences that left the KV cache, saved in the process's memory: brought back in milliseconds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model.h"

namespace syncyte {

// The least recently used leave first. The engine thread only.
class ParkedTexts {
  public:
    struct Text {
        std::vector<Token> tokens;
        std::string salt;      // only the same one may use it
        std::size_t from = 0;  // the first token that is saved: who uses it must hold those before
        std::vector<std::uint8_t> state;
        std::uint64_t last_used = 0;
    };

    // Room for `most` saved tokens of all texts together.
    explicit ParkedTexts(std::size_t most) : most_(most) {}

    // What somebody who holds the first `held` of these tokens asks for.
    struct Wanted {
        std::span<const Token> tokens;
        std::string_view salt;
        std::size_t held = 0;
    };

    // Whether there is a text that begins with these tokens, saved from `held` on. It then counts as used.
    bool covers(const Wanted& wanted);
    // Whether such a text is there, or can be added without another's leaving.
    [[nodiscard]] bool takes(const Wanted& wanted) const;
    // Keeps a text, in place of those that it begins with and needs no more of.
    void add(Text text);
    // The text that has most first tokens in common with those wanted, if at least so many, until anything is
    // changed. It then counts as used. nullptr: there is none.
    const Text* find(const Wanted& wanted, std::size_t least);
    // Gives that text away.
    std::optional<Text> take(const Wanted& wanted, std::size_t least);
    // All with this salt, as long as nothing is changed.
    void list(std::string_view salt, std::vector<std::span<const Token>>& found) const;
    void clear();

    // Saved tokens of all texts.
    [[nodiscard]] std::size_t tokens() const { return tokens_; }

  private:
    [[nodiscard]] std::size_t covering(const Wanted& wanted) const;
    [[nodiscard]] std::size_t index_of(const Wanted& wanted, std::size_t least) const;
    Text remove(std::size_t index);

    const std::size_t most_;
    std::vector<Text> texts_;
    std::size_t tokens_ = 0;
    std::uint64_t clock_ = 0;
};

}  // namespace syncyte
