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
        std::string salt;  // only the same one may use it
        std::vector<std::uint8_t> state;
        std::uint64_t last_used = 0;
    };

    // Room for `most` tokens of all texts together.
    explicit ParkedTexts(std::size_t most) : most_(most) {}

    // Whether there is a text that begins with these tokens. It then counts as used.
    bool covers(std::span<const Token> tokens, std::string_view salt);
    // Whether such a text is there, or can be added without another's leaving.
    [[nodiscard]] bool takes(std::span<const Token> tokens, std::string_view salt) const;
    // Keeps a text, in place of those that it begins with.
    void add(Text text);
    // The text that has most first tokens in common with `tokens`, if at least so many, until anything is
    // changed. It then counts as used. nullptr: there is none.
    const Text* find(std::span<const Token> tokens, std::string_view salt, std::size_t least);
    // Gives that text away.
    std::optional<Text> take(std::span<const Token> tokens, std::string_view salt, std::size_t least);
    // All with this salt, as long as nothing is changed.
    void list(std::string_view salt, std::vector<std::span<const Token>>& found) const;
    void clear();

    // Tokens of all texts.
    [[nodiscard]] std::size_t tokens() const { return tokens_; }

  private:
    [[nodiscard]] std::size_t covering(std::span<const Token> tokens, std::string_view salt) const;
    [[nodiscard]] std::size_t index_of(std::span<const Token> tokens, std::string_view salt,
                                       std::size_t least) const;
    Text remove(std::size_t index);

    const std::size_t most_;
    std::vector<Text> texts_;
    std::size_t tokens_ = 0;
    std::uint64_t clock_ = 0;
};

}  // namespace syncyte
