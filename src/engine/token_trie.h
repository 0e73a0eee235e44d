// The texts of a vocabulary as a tree of bytes: what a grammar allows is found in one walk.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/model.h"

namespace syncyte {

// Immutable. Tokens without a text (control tokens) are not in it.
class TokenTrie {
  public:
    struct Node {
        std::uint8_t byte = 0;
        std::uint16_t depth = 0;   // of the node; its first child's is one more. 1: a first byte
        std::uint32_t after = 0;   // the next node that is not below this one
        std::uint32_t tokens = 0;  // place in the list of tokens; they go on to the next node's place
    };

    explicit TokenTrie(const Model& model);

    // In depth-first order. The last one ends the list and is no node.
    [[nodiscard]] std::span<const Node> nodes() const { return {nodes_.data(), nodes_.size() - 1}; }
    // The tokens whose text ends at nodes()[index].
    [[nodiscard]] std::span<const Token> tokens(std::size_t index) const {
        return {tokens_.data() + nodes_[index].tokens, tokens_.data() + nodes_[index + 1].tokens};
    }
    // Empty: none, or not in the vocabulary.
    [[nodiscard]] std::string_view text(Token token) const;
    [[nodiscard]] std::size_t vocabulary_size() const { return texts_.size(); }
    [[nodiscard]] std::span<const Token> end_tokens() const { return end_tokens_; }
    [[nodiscard]] std::size_t deepest() const { return deepest_; }

  private:
    std::vector<std::string> texts_;
    std::vector<Node> nodes_;
    std::vector<Token> tokens_;
    std::vector<Token> end_tokens_;
    std::size_t deepest_ = 0;
};

}  // namespace syncyte
